"""One job: from the composed configuration to a finished run directory.

Hydra calls the task of a command with the configuration it composed, once for a run, once a job for
a sweep, possibly in another process. Whatever happens is in the run's ``summary.json`` and log
before the task returns or raises: a sweep goes on after a job that failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from idl_cli.config.check import instantiate
from idl_cli.errors import IdlError, RunError
from idl_cli.jobs.failure import free_memory, one_line, release
from idl_cli.jobs.interruption import end_with, interruptible, wait_for_the_end_of_the_pool
from idl_cli.jobs.parallel import device_of_job, runs_side_by_side
from idl_cli.jobs.request_record import record_request
from idl_cli.requests.preflight import checked_settings
from idl_cli.requests.specification import COMMANDS, Command

if TYPE_CHECKING:
    from idl_cli.distributed.store import MeetingPlace
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory

_LOG = logging.getLogger(__name__)
_QUEUED: Final = "SUBMITIT_EXECUTOR"
"""Set where submitit runs the job; it ends the process with SystemExit to queue the job again."""


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


def run_joined(name: str, config: DictConfig, meeting: MeetingPlace, output: Path) -> float | None:
    """Run one rank's part, in the directory of all, where another launcher has started them."""
    return _run_in(output, name, config, meeting)


def _run(name: str, config: DictConfig) -> float | None:
    output = Path(HydraConfig.get().runtime.output_dir)
    beside_others = _job_number() is not None and runs_side_by_side(HydraConfig.get().launcher)
    if beside_others:
        end_with(output.parent)
    try:
        return _run_in(output, name, config, None)
    except KeyboardInterrupt:
        if beside_others:
            wait_for_the_end_of_the_pool(output.parent)
        raise


def _run_in(
    output: Path, name: str, config: DictConfig, meeting: MeetingPlace | None
) -> float | None:
    from idl_cli.jobs.ranks import reporter_of
    from idl_cli.jobs.torchrun import together
    from idl_cli.run import RunDirectory
    from idl_cli.run.shared import ObservedRunDirectory

    command = COMMANDS[name]
    seed = config.get("seed")
    rank = 0 if meeting is None else meeting.place.rank
    continues = config.get("resume") == "auto" or _is_unfinished_job(output)
    with (
        reporter_of(rank) as console,
        ObservedRunDirectory(output, command=name, seed=seed)
        if rank
        else RunDirectory(output, command=name, seed=seed, resume=continues) as directory,
        _reported(directory, console, wanted=rank == 0 and config.get("report") is not False),
        _recorded(directory, console),
    ):
        if rank == 0:
            record_request(directory, config, cast(Any, HydraConfig.instance().cfg))
        with nullcontext() if meeting is None else together(meeting, directory):
            settings = instantiate(command.schema, checked_settings(command, config))
            if continues:
                settings = _continuing(settings, directory)
            result = _perform(command, settings, directory, console, meeting)
        if rank:
            return None
        if not _is_finished(directory):
            sections = {key: value for key, value in result.items() if key != "metrics"}
            directory.finish("completed", result.get("metrics", result), sections=sections)
        return _optimized(settings.optimized_metric, result, console)


def _perform(
    command: Command,
    settings: Any,
    directory: RunDirectory,
    console: Reporter,
    meeting: MeetingPlace | None,
) -> dict[str, Any]:
    """Do the command's work: here, or on one process a device where it asks for several."""
    from idl_cli.jobs.ranks import perform, planned_devices, run_on_ranks
    from idl_cli.jobs.torchrun import perform_joined

    if meeting is not None:
        return perform_joined(command, settings, directory, console, meeting)
    devices = planned_devices(settings, assigned=_device(settings.device))
    if len(devices) == 1:
        return perform(command, replace(settings, device=devices[0]), directory, console)
    log: Any = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    return run_on_ranks(command.name, settings, directory, console, devices=devices, log=log)


def _is_unfinished_job(output: Path) -> bool:
    """Whether a job of a sweep finds that it was started before and did not complete.

    It then goes on where it was, whether the sweep is continued or a cluster has put the job back
    into its queue.
    """
    from idl_cli.run import run_status

    if _job_number() is None or not (output / ".hydra").is_dir():
        return False
    try:
        return run_status(output) in ("failed", "interrupted", "killed")
    except RunError:  # its summary is damaged: it goes on from its checkpoint
        return True


def _continuing(settings: Any, directory: RunDirectory) -> Any:
    """The settings of a run that goes on; a command that cannot go on begins anew."""
    if not hasattr(settings, "resume"):
        directory.truncate_metrics(0)
        return settings
    return settings if settings.resume else replace(settings, resume="auto")


def _device(wanted: str) -> str:
    """The job's own GPU where several jobs of a sweep run at once on this machine."""
    hydra = HydraConfig.get()
    if _job_number() is None or not runs_side_by_side(hydra.launcher):
        return wanted
    import torch

    return device_of_job(int(hydra.job.num), wanted, torch.cuda.device_count())


@contextmanager
def _reported(directory: RunDirectory, console: Reporter, *, wanted: bool) -> Iterator[None]:
    """Leave a page about the run behind, however it ended; never fail it for that."""
    try:
        yield
    finally:
        if wanted and directory.path.is_dir():
            from idl_cli.reports.run_page import REPORT, run_page

            try:
                directory.write_text(REPORT, run_page(directory.path))
            except Exception as error:
                _LOG.debug("%s", REPORT, exc_info=True)
                console.warning(f"{REPORT} was not written: {type(error).__name__}: {error}")


@contextmanager
def _recorded(directory: RunDirectory, console: Reporter) -> Iterator[None]:
    """Write down how the job ended, whichever way it does, and pass the error on."""
    with interruptible() as unwinding:
        try:
            yield
        except KeyboardInterrupt:
            _record_interruption(directory)
            raise
        except (Exception, SystemExit) as error:
            if unwinding.raised is not None:
                _record_interruption(directory)
                raise unwinding.raised from error
            if isinstance(error, SystemExit) and _QUEUED in os.environ:
                _LOG.warning("put back into the queue")  # the job goes on where it was
                raise
            _record_failure(error, directory, console)
        finally:
            free_memory()


def _record_interruption(directory: RunDirectory) -> None:
    _LOG.warning("interrupted")
    _finish(directory, "interrupted", None)


def _record_failure(error: BaseException, directory: RunDirectory, console: Reporter) -> NoReturn:
    """Write down why a job failed, tell it where it is one of several, and raise it again."""
    if not isinstance(error, IdlError):
        directory.refuse_removed()
    foreseen = isinstance(error, IdlError)
    sentence = one_line(error)
    number = _job_number()
    _finish(directory, "failed", sentence)
    if foreseen:
        _LOG.error("%s", error)
    else:
        _LOG.error("%s", sentence, exc_info=error)
    logged = not foreseen or getattr(error, "logged", False)
    if logged:
        sentence += f"\nThe traceback is in {directory.path / 'run.log'}"
    if number is not None:
        console.error(f"job {number} failed: {sentence}")
        release(error)
    elif not logged:
        raise error
    raise JobError(sentence, str(directory.path)) from error


def _finish(directory: RunDirectory, status: Any, error: str | None) -> None:
    """Write the summary unless the command, which knows more, already did."""
    try:
        directory.refuse_removed()
    except RunError:
        return
    if not _is_finished(directory):
        directory.finish(status, {}, error)


def _is_finished(directory: RunDirectory) -> bool:
    return (directory.path / "summary.json").exists()


def _job_number() -> int | None:
    """The job's number in its sweep, None in a run; its directory is named after it."""
    hydra = HydraConfig.get()
    if OmegaConf.is_missing(hydra.job, "num"):
        return None
    name = Path(hydra.runtime.output_dir).name
    return int(name) if name.isdigit() else int(hydra.job.num)


def _optimized(name: str | None, result: Mapping[str, Any], console: Reporter) -> float | None:
    """The figure for a sweeper; where there is none to compare, it counts the job as failed."""
    from idl_cli.assembly.optimized_metric import optimized_value

    value = optimized_value(name, result)
    if name is not None and value is None:
        console.warning(
            f"optimized_metric={name}: is no finite number here; a sweeper counts the run as failed"
        )
    return value
