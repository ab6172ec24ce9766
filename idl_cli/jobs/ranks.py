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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idl_cli.config.check import instantiate
from idl_cli.errors import ConfigError, RankError
from idl_cli.jobs.parallel import cores, threads_each
from idl_cli.reporting import Reporter, SilentReporter
from idl_cli.requests.request import Accepted
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.run import RunDirectory

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankTask:
    """What one rank is told to do; plain values, since it travels to another process.

    Attributes:
        command: what is run.
        settings: checked, with the rank's own device and threads.
        path: the run directory.
        rank: this rank.
        log: the configuration of logging that rank 0 takes over, for ``dictConfig``.
    """

    command: Command
    settings: Any
    path: Path
    rank: int
    log: Mapping[str, Any] | None


def ranked_section(command: Command, settings: object) -> Mapping[str, Any] | None:
    """The section of the settings that says on how many ranks the command works.

    None where that is one, as with a solver that has no key ``devices``.
    """
    section = None if command.ranks is None else getattr(settings, command.ranks)
    return section if section is not None and "devices" in section else None


def planned_devices(command: Command, settings: Any, assigned: str) -> tuple[str, ...]:
    """The device of each rank that the settings ask for on this machine.

    Args:
        command: that is asked for.
        settings: checked.
        assigned: the device of this job, where the choice was left to idl.

    Raises:
        ConfigError: they cannot be had here.
    """
    section = ranked_section(command, settings)
    if section is None:
        return (assigned,)
    devices, processes = section.get("devices"), section.get("processes")
    if devices is None and not command.every_device:
        return (assigned,)
    from idl_cli.distributed.devices import rank_devices, visible_gpus

    visible = visible_gpus()
    policy = assigned if devices is None and processes is None else settings.device
    if not command.every_device and isinstance(devices, int) and policy == "auto" and not visible:
        policy = "cpu"  # how many is all that was asked for
    return rank_devices(devices, processes, policy=policy, visible=visible, key=str(command.ranks))


def refuse_missing_devices(accepted: Accepted) -> None:
    """Look at the devices of a run on this machine, where the user names or counts some.

    Else nothing is looked at: torch would be imported, for nothing, before the job sets the
    environment that it reads (``hydra.job.env_set``).

    Args:
        accepted: the request, of one run.

    Raises:
        ConfigError: they cannot be had here.
    """
    if accepted.hydra.job.env_set or not _asks_for_devices(accepted):
        return
    from idl_cli.distributed.devices import resolve_device

    command = accepted.request.command
    settings = instantiate(command.schema, accepted.settings)
    for device in planned_devices(command, settings, assigned=settings.device):
        resolve_device(device)


def _asks_for_devices(accepted: Accepted) -> bool:
    section = accepted.settings.get(accepted.request.command.ranks or "") or {}
    counts = (section.get(key) for key in ("devices", "processes"))
    named = str(accepted.settings.get("device")).startswith("cuda")
    return named or any(count is not None for count in counts)


def run_on_ranks(
    command: Command,
    settings: Any,
    directory: RunDirectory,
    console: Reporter,
    *,
    devices: tuple[str, ...],
    log: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Run a command's work on one process a device and return rank 0's result.

    Args:
        command: what is run.
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
    from idl_cli.distributed.launch import launch

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
    from idl_cli.run.shared import LentRunDirectory, ObservedRunDirectory

    command, settings = task.command, task.settings
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
    """Do the command's work in this process."""
    if not getattr(settings, "profile", False):
        return command.work(settings, directory, console)
    from idl_cli.jobs.profiling import profiled

    with profiled(directory, console):
        return command.work(settings, directory, console)


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
