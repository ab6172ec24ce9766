"""A command that torchrun has started: one rank of a group, with one run directory for all.

Every rank checks the request and composes the configuration; rank 0 alone claims the run directory,
writes its files and logs. Where ranks refuse the request, it is said once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from hydra.types import RunMode
from omegaconf import DictConfig

from idl_cli import __version__, registry
from idl_cli.config.check import schema_defaults
from idl_cli.distributed.environment import Launched
from idl_cli.distributed.process import ignore_sigterm
from idl_cli.errors import (
    ConfigError,
    IdlError,
    IgnoredOptionWarning,
    RankExit,
    RequestError,
    unforeseen,
)
from idl_cli.jobs.rank_requests import RankRequest, problems_of
from idl_cli.requests.output_directory import claim
from idl_cli.requests.request import Accepted

if TYPE_CHECKING:
    from idl_cli.distributed.store import MeetingPlace
    from idl_cli.reporting import Reporter
    from idl_cli.requests.specification import Command
    from idl_cli.run import RunDirectory

_SILENT = (
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)
"""What keeps Hydra from writing into the run directory, on the ranks that do not."""


def run_joined(
    command: Command,
    place: Launched,
    accept: Callable[[], Accepted],
    hydra: Callable[[Sequence[str], Callable[[DictConfig], float | None]], int],
    task: Callable[[Path, DictConfig, MeetingPlace], float | None],
) -> int:
    """Run one rank's part of a command and return the exit status.

    Args:
        command: what is run.
        place: of this process in its group.
        accept: checks the request; raises what is wrong with it.
        hydra: runs a task with overrides, as ``idl`` always does.
        task: the job, told the run directory and where the ranks meet.

    Raises:
        IdlError: the request is wrong or the work failed; ``RankExit`` on the ranks that leave it
            to another one to say so.
    """
    # torch's own lines about lost ranks, with stack traces, would bury the one sentence.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from idl_cli.distributed.joint_failure import telling_other_ranks
    from idl_cli.distributed.store import JOIN_TIMEOUT, meet

    accepted, problems = _accepted(accept)
    settings = None if accepted is None else accepted.settings
    timeout = JOIN_TIMEOUT if settings is None else settings.get("join_timeout", JOIN_TIMEOUT)
    meeting = meet(place, timeout)
    request = RankRequest(command.name, __version__, settings, problems)
    _refuse_together(meeting.exchange("request", asdict(request), timeout), place.rank)
    assert accepted is not None
    directory = _claimed(meeting, accepted, timeout)
    quoted = str(directory).replace("'", r"\'")
    overrides = [*accepted.overrides, f"hydra.run.dir='{quoted}'"]
    if place.rank:
        overrides += _SILENT
        if not accepted.hydra.job.chdir:
            overrides.append("hydra.run.dir=.")  # Hydra makes this directory, on every machine
    with telling_other_ranks(meeting):
        return hydra(overrides, lambda config: task(directory, config, meeting))


def refuse_alone(accepted: Accepted, size: int) -> None:
    """Refuse what cannot run as several processes of one group.

    Raises:
        RequestError: a sweep, a command or a solver that works in one process.
    """
    command = accepted.request.command
    if accepted.hydra.mode == RunMode.MULTIRUN:
        raise sweep_refusal(command.name)
    if size == 1:
        return
    if command.ranks is None:
        raise RequestError(f"`idl {command.name}` works in one process: start it without torchrun")
    section = accepted.settings[command.ranks]
    if "devices" not in section:
        able = [
            f"{command.ranks}={name}"
            for name, schema in registry.built_in_schemas(command.ranks).items()
            if "devices" in schema_defaults(schema)
        ]
        raise RequestError(
            f"{command.ranks}={section['name']}: works in one process, and torchrun has started "
            f"{size}; use {' or '.join(able)}, or start it without torchrun"
        )


def sweep_refusal(command: str) -> RequestError:
    """What is wrong with a sweep under torchrun."""
    return RequestError(
        f"-m: torchrun starts the processes of one run, not of a sweep; start `idl {command} -m …` "
        "without it, whose every job starts its own processes (solver.devices, trainer.devices)"
    )


def perform_joined(
    command: Command,
    settings: Any,
    directory: RunDirectory,
    console: Reporter,
    meeting: MeetingPlace,
) -> dict[str, object]:
    """Do this rank's part of the command's work.

    Raises:
        IdlError: it cannot be done.
    """
    from idl_cli.distributed.join import joined
    from idl_cli.distributed.store import JOIN_TIMEOUT
    from idl_cli.jobs.ranks import perform

    for ignored in _ignored(command, settings, meeting.place.size):
        warn(ignored, IgnoredOptionWarning, stacklevel=2)
    timeout = getattr(settings, "join_timeout", JOIN_TIMEOUT)
    with joined(settings.device, timeout, meeting=meeting) as group:
        return perform(command, replace(settings, device=str(group.device)), directory, console)


@contextmanager
def together(meeting: MeetingPlace, directory: RunDirectory) -> Iterator[None]:
    """What the ranks do together: however it ends, they end together, and one of them says why.

    Args:
        meeting: of the ranks.
        directory: of the run, on this rank.
    """
    from idl_cli.distributed.joint_failure import failing_together
    from idl_cli.distributed.watchdog import watchdog

    rank = meeting.place.rank
    with (
        failing_together(meeting, partial(_note_cause, directory, rank)),
        watchdog(meeting, partial(_end_for_all, directory, rank)),
    ):
        yield


def _accepted(accept: Callable[[], Accepted]) -> tuple[Accepted | None, list[str]]:
    try:
        return accept(), []
    except RequestError as error:
        return None, list(getattr(error, "problems", ())) or [str(error)]


def _refuse_together(words: Sequence[Mapping[str, Any]], rank: int) -> None:
    """Raise on rank 0 what is wrong with the request of any rank, or with all of them together."""
    problems = problems_of([RankRequest(**word) for word in words])
    if not problems:
        return
    if rank:
        raise RankExit(RequestError.exit_status)
    ignore_sigterm()  # it is to say why, also where torchrun sees another rank end first
    raise ConfigError(problems)


def _claimed(meeting: MeetingPlace, accepted: Accepted, timeout: float) -> Path:
    """The run directory, which rank 0 claims for all."""
    word: dict[str, Any] = {}
    refusal: IdlError | None = None
    if meeting.place.rank == 0:
        try:
            directory, _ = claim(accepted, sweep=False)
            directory.mkdir(parents=True, exist_ok=True)  # Hydra would fail when all have gone on
            word = {"path": str(directory.resolve())}
        except (IdlError, OSError) as error:
            refusal = error if isinstance(error, IdlError) else IdlError(unforeseen(error))
            word = {"exit_status": refusal.exit_status}
    heard = meeting.exchange("directory", word, timeout)[0]
    if refusal is not None:
        ignore_sigterm()  # it is to say why, also where torchrun sees another rank end first
        raise refusal
    if "path" not in heard:
        raise RankExit(heard["exit_status"])
    return Path(heard["path"])


def _ignored(command: Command, settings: Any, size: int) -> Iterator[str]:
    from idl_cli.jobs.ranks import ranked_section

    section = ranked_section(command, settings) or {}
    for name in ("devices", "processes"):
        if section.get(name) is not None:
            yield (
                f"{command.ranks}.{name}={section[name]}: ignored, since torchrun has started the "
                f"processes ({size})"
            )


def _end_for_all(directory: RunDirectory, rank: int, cause: Any) -> None:
    """Write down and say how the run ended, in place of a main thread that cannot."""
    if cause.kind == "interrupted":
        directory.finish("interrupted", {})
        sys.stderr.write("idl: interrupted\n")
        return
    _note_cause(directory, rank, cause)
    directory.finish("failed", {}, cause.sentence)
    sys.stderr.write(f"idl {directory.command}: {cause.sentence}\n")


def _note_cause(directory: RunDirectory, rank: int, cause: Any) -> None:
    """Keep the traceback in the log; where rank 0 is no more, write down how the run ended."""
    import logging

    from idl_cli.errors import RunError
    from idl_cli.run import RunDirectory

    if cause.traceback:
        logging.getLogger(__name__).error("rank %d:\n%s", cause.rank, cause.traceback)
    if rank == 0 or not (directory.path / ".hydra").is_dir():
        return
    try:
        with RunDirectory(
            directory.path, command=directory.command, seed=directory.seed, resume=True
        ) as left:
            left.finish("failed", {}, cause.sentence)
    except RunError:  # rank 0 lives after all, and says it itself
        return
