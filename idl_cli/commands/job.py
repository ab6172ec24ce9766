"""One job: from the composed configuration to a finished run directory.

Hydra calls the task of a command with the configuration it composed, once for a run, once a job for
a sweep, possibly in another process. Whatever happens is in the run's ``summary.json`` and log
before the task returns or raises: a sweep goes on after a job that failed.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from idl_cli.commands.preflight import checked_settings
from idl_cli.commands.specification import COMMANDS
from idl_cli.config.check import instantiate
from idl_cli.errors import ConfigError, IdlError, RunError

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory

_LOG = logging.getLogger(__name__)
_VALIDATION_METRICS: Final = ("validation_accuracy", "validation_r2", "validation_loss")


class JobError(IdlError):
    """A job failed: in a sweep for any reason, else for one that idl did not foresee.

    Args:
        message: what went wrong.
        directory: the job's run directory.
    """

    def __init__(self, message: str, directory: str) -> None:
        super().__init__(message, directory)  # both are arguments, so that launchers can pickle it
        self.message = message
        self.directory = Path(directory)

    def __str__(self) -> str:
        return self.message


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, with its own exit status.

    Attributes:
        signal: the signal's number.
    """

    signal = int(signal.SIGTERM)


def train(config: DictConfig) -> float | None:
    """Run ``idl train``; return the optimised metric."""
    return _run("train", config)


def sim(config: DictConfig) -> float | None:
    """Run ``idl sim``; return the optimised metric."""
    return _run("sim", config)


def evaluate(config: DictConfig) -> float | None:
    """Run ``idl eval``; return the optimised metric."""
    return _run("eval", config)


Task: TypeAlias = Callable[[DictConfig], "float | None"]

TASKS: Final[Mapping[str, Task]] = MappingProxyType({"train": train, "sim": sim, "eval": evaluate})


def _run(name: str, config: DictConfig) -> float | None:
    from idl_cli.console import Console
    from idl_cli.run import RunDirectory

    command = COMMANDS[name]
    output = Path(HydraConfig.get().runtime.output_dir)
    console = Console()
    resume = config.get("resume") == "auto"
    with (
        console.capture_warnings(),
        RunDirectory(output, command=name, seed=config.get("seed"), resume=resume) as directory,
        _recorded(directory, console),
    ):
        settings = instantiate(command.schema, checked_settings(command, config))
        module, _, function = command.target.partition(":")
        result = getattr(import_module(module), function)(settings, directory, console)
        metrics = result.get("metrics", result)
        if not _is_finished(directory):
            sections = {key: value for key, value in result.items() if key != "metrics"}
            directory.finish("completed", metrics, sections=sections)
        return _optimized(settings.optimized_metric, metrics)


@contextmanager
def _recorded(directory: RunDirectory, console: Reporter) -> Iterator[None]:
    """Write down how the job ended, whichever way it does, and pass the error on."""
    try:
        with _sigterm_as_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        _LOG.warning("interrupted")
        _finish(directory, "interrupted", None)
        raise interrupt
    except Exception as error:
        foreseen = isinstance(error, IdlError)
        sentence = _one_line(error) if foreseen else f"{type(error).__name__}: {error}"
        number = _job_number()
        _finish(directory, "failed", sentence)
        if foreseen:
            _LOG.error("%s", error)
        else:
            _LOG.exception("%s", sentence)
            sentence += f"\nThe traceback is in {directory.path / 'run.log'}"
        if number is not None:
            console.error(f"job {number} failed: {sentence}")
        elif foreseen:
            raise
        raise JobError(sentence, str(directory.path)) from error


def _finish(directory: RunDirectory, status: Any, error: str | None) -> None:
    """Write the summary unless the command, which knows more, already did."""
    if not _is_finished(directory):
        directory.finish(status, {}, error)


def _is_finished(directory: RunDirectory) -> bool:
    return (directory.path / "summary.json").exists()


def _one_line(error: Exception) -> str:
    return "; ".join(error.problems) if isinstance(error, ConfigError) else str(error)


def _job_number() -> int | None:
    """The job's number in its sweep, None in a run."""
    job = HydraConfig.get().job
    return None if OmegaConf.is_missing(job, "num") else int(job.num)


def _optimized(name: str | None, metrics: Mapping[str, Any]) -> float | None:
    """The metric for a sweeper: the one named, else the validation metric where there is one."""
    if name is None:
        name = next((each for each in _VALIDATION_METRICS if each in metrics), None)
        return None if name is None else float(metrics[name])
    if name not in metrics:
        raise RunError(
            f"optimized_metric={name}: no such metric; this run has {', '.join(sorted(metrics))}"
        )
    return float(metrics[name])


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind the job as Ctrl-C does, so that it is recorded."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # a launcher runs jobs in threads, where no handler can be set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
