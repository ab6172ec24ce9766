"""A command's work on several processes of this machine.

The job in the parent holds the run directory and says how the run ended; the ranks do the work.
Every rank runs the command's own function, with ``device`` and ``threads`` replaced by its own:
``idl_cli.distributed.group.current(compute.device)`` is the group it is in. Rank 0 gets the run's
directory and the console, the others a directory that reads, and leaves writing to rank 0, and a
reporter that says nothing. Rank 0's result is the job's.
"""

from __future__ import annotations

import logging
import logging.config
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from idl_cli.config.schemas.root import SimSettings, TrainSettings
from idl_cli.distributed.devices import rank_devices
from idl_cli.distributed.launch import launch
from idl_cli.errors import ConfigError, RankError
from idl_cli.jobs.parallel import cores, threads_each
from idl_cli.reporting import Reporter, SilentReporter
from idl_cli.requests.specification import COMMANDS, Command
from idl_cli.run import RunDirectory
from idl_cli.run.shared import LentRunDirectory, ObservedRunDirectory

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankTask:
    """What one rank is told to do; plain values, since it travels to another process.

    Attributes:
        command: name of the command.
        settings: checked, with the rank's own device and threads.
        path: the run directory.
        rank: this rank.
        log: the configuration of logging that rank 0 takes over, for ``dictConfig``.
    """

    command: str
    settings: Any
    path: Path
    rank: int
    log: Mapping[str, Any] | None


def ranked_section(settings: object) -> tuple[str, Mapping[str, Any]] | None:
    """The section of the settings that says on how many ranks the command works.

    ``idl sim`` with a solver that has the settings ``devices`` and ``processes``, and
    ``idl train``, can work on several; of any other command, None.
    """
    if isinstance(settings, SimSettings) and "devices" in settings.solver:
        return "solver", settings.solver
    if isinstance(settings, TrainSettings):
        return "trainer", settings.trainer
    return None


def planned_devices(settings: Any, assigned: str) -> tuple[str, ...]:
    """The device of each rank that the settings ask for on this machine.

    Args:
        settings: checked.
        assigned: the device of this job, where the choice was left to idl.

    Raises:
        ConfigError: they cannot be had here.
    """
    found = ranked_section(settings)
    if found is None:
        return (assigned,)
    key, section = found
    devices, processes = section.get("devices"), section.get("processes")
    if key == "trainer" and devices is None:
        return (assigned,)
    import torch

    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    policy = assigned if devices is None and processes is None else settings.device
    if key == "trainer" and isinstance(devices, int) and policy == "auto" and not visible:
        policy = "cpu"  # how many is all that was asked for
    return rank_devices(devices, processes, policy=policy, visible=visible, key=key)


def run_on_ranks(
    command: str,
    settings: Any,
    directory: RunDirectory,
    console: Reporter,
    *,
    devices: tuple[str, ...],
    log: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Run a command's work on one process a device and return rank 0's result.

    Args:
        command: name of the command, such as ``sim``.
        settings: checked; the same for all ranks but for ``device`` and ``threads``.
        directory: of this run, locked by this process.
        console: told what happens.
        devices: one a rank, such as ``("cuda:0", "cuda:1")`` or ``("cpu", "cpu")``.
        log: the configuration of logging that rank 0 takes over.

    Raises:
        RankError: a rank raised, was killed or never joined; the sentence names it and its cause.
        ConfigError: the ranks refused the request.
        KeyboardInterrupt: SIGINT or SIGTERM came; all ranks have ended.
    """
    threads = threads_each(len(devices), _threads_here(), settings.threads)
    each = "1 thread" if threads == 1 else f"{threads} threads"
    console.message(f"ranks: {', '.join(devices)}; {each} each")
    tasks = [
        RankTask(
            command,
            replace(settings, device=device, threads=threads),
            directory.path.resolve(),
            rank,
            log if rank == 0 else None,
        )
        for rank, device in enumerate(devices)
    ]
    outcome = launch(work, tasks, threads=threads)
    if outcome.cause is None:
        result: dict[str, object] = outcome.result
        return result
    cause = outcome.cause
    if cause.exit_status == ConfigError.exit_status:  # the same on all ranks
        raise ConfigError(cause.problems)
    if cause.traceback:
        _LOG.error("rank %d:\n%s", cause.rank, cause.traceback)
    raise RankError(cause.sentence, logged=bool(cause.traceback))


def work(task: RankTask) -> dict[str, object]:
    """Do one rank's part, in the process started for it."""
    from idl_cli.distributed.join import joined

    command = COMMANDS[task.command]
    settings = task.settings
    kind = LentRunDirectory if task.rank == 0 else ObservedRunDirectory
    directory = kind(task.path, command=command.name, seed=settings.seed)
    with (
        reporter_of(task.rank, task.log) as console,
        joined(settings.device, settings.join_timeout),
    ):
        return perform(command, settings, directory, console)


def perform(
    command: Command, settings: Any, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Call the command's function: its work in this process."""
    module, _, function = command.target.partition(":")
    work: Callable[..., dict[str, object]] = getattr(import_module(module), function)
    if not getattr(settings, "profile", False):
        return work(settings, directory, console)
    from idl_cli.jobs.profiling import profiled

    with profiled(directory, console):
        return work(settings, directory, console)


@contextmanager
def reporter_of(rank: int, log: Mapping[str, Any] | None = None) -> Iterator[Reporter]:
    """The terminal for rank 0; silence for the others, whose warnings are the same.

    Args:
        rank: which.
        log: how rank 0 logs, for ``dictConfig``; None where logging is set up already.
    """
    if rank == 0:
        from idl_cli.console import Console

        if log is not None:
            logging.config.dictConfig(dict(log))
        console = Console()
        with console.capture_warnings():
            yield console
        return
    logging.getLogger().addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield SilentReporter()


def _threads_here() -> int:
    """Threads that this process may use: its cores, or fewer where OMP_NUM_THREADS says so."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(limit)) if limit.isdecimal() and int(limit) else cores()
