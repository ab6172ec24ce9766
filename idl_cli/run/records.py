"""What runs left behind, read without torch: which directories are runs, how each ended, with what.

A run is a directory that holds a summary, a composed configuration, metrics or checkpoints; it need
not have ended. Runs may be of any age: what a file lacks is left out, what cannot be read is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from idl_cli.errors import RunError
from idl_cli.run.files import read_json
from idl_cli.run.lock import is_locked
from idl_cli.run.yaml_files import read_lines, read_yaml

Status: TypeAlias = Literal["completed", "failed", "interrupted"]

SUMMARY: Final = "summary.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINTS: Final = "checkpoints"
DATA: Final = "data.json"
HYDRA: Final = ".hydra"
CONFIG: Final = f"{HYDRA}/config.yaml"
_MARKS: Final = (SUMMARY, CONFIG, METRICS, CHECKPOINTS)
UNREADABLE: Final = "unreadable"
"""Status of a run whose summary cannot be read."""

_ADVICE: Final = "; delete the file, and the run counts as killed and can be continued"
_ENTRIES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "command": str,
        "seconds": int | float,
        "metrics": dict,
        "sim": dict,
        "training": dict,
        "error": str,
    }
)
"""Types of the entries of a summary that are read by name."""


@dataclass(frozen=True)
class RunRecord:
    """One run as it stands in its directory.

    Attributes:
        path: the directory.
        status: completed, failed, interrupted; running or killed where there is no summary.
        command: the sub-command that made it; None where nothing says it.
        config: the composed configuration, nested; empty for a run of a Python caller.
        summary: its ``summary.json``; empty where there is none.
        error: what went wrong: of the run, else of reading its files; None where nothing did.
    """

    path: Path
    status: str
    command: str | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    error: str | None


def is_run(path: Path) -> bool:
    """Whether a directory holds a run."""
    return any(os.path.exists(path / mark) for mark in _MARKS)


def find_runs(path: Path) -> list[Path]:
    """The runs in a directory: itself, or those below it at any depth, in natural order.

    What lies inside a run (the teacher it kept, say) is part of that run. Hidden directories and
    symbolic links are passed by. A directory below that cannot be looked into is listed: whatever
    reads it as a run says why.

    Raises:
        RunError: the directory itself cannot be looked into.
    """
    found: list[Path] = []
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        if is_run(directory):
            found.append(directory)
            continue
        try:
            entries = [each for each in os.scandir(directory) if each.is_dir(follow_symlinks=False)]
        except OSError as error:
            if directory == path:
                raise RunError(f"{path}: cannot be read ({error.strerror})") from error
            found.append(directory)
            continue
        entries.sort(key=lambda each: _natural(each.name), reverse=True)
        waiting += [Path(each.path) for each in entries if not each.name.startswith(".")]
    return found


def _natural(name: str) -> tuple[bool, int, str]:
    """Jobs in the order of their numbers, behind them names."""
    is_number = name.isdecimal()
    return (not is_number, int(name) if is_number else 0, name)


def read_record(path: Path) -> RunRecord:
    """Read a run; a file that is damaged is named in ``error`` and taken as empty."""
    problems = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    status = "running" if is_locked(path) else "killed"
    # A summary is the last thing that a run writes, so it goes before the lock.
    if not os.access(path, os.R_OK | os.X_OK):
        status, problems = UNREADABLE, [f"{path}: cannot be read (no right to look into it)"]
    elif (path / SUMMARY).exists():
        try:
            summary = read_summary(path)
            status = str(summary["status"])
        except RunError as error:
            status, problems = UNREADABLE, [str(error)]
    if os.access(path, os.X_OK):
        try:
            config = read_yaml(path / CONFIG)
        except RunError as error:
            problems.append(str(error))
    said = summary.get("error")
    return RunRecord(
        path=path,
        status=status,
        command=_command(path, summary, config),
        config=config,
        summary=summary,
        error="; ".join([*([said] if isinstance(said, str) else []), *problems]) or None,
    )


def run_status(path: Path) -> Status | Literal["running", "killed"]:
    """Say how the run in a directory ended, or that it lives.

    A directory without a summary and without a live lock was killed.

    Raises:
        RunError: its summary is unreadable.
    """
    if is_locked(path):
        return "running"
    if not (path / SUMMARY).exists():
        return "killed"
    return recorded_status(path)


def recorded_status(path: Path) -> Status:
    """How a run ended, by its summary.

    Raises:
        RunError: the summary is missing or unreadable, or says of no ending.
    """
    return cast(Status, read_summary(path)["status"])


def read_summary(path: Path) -> dict[str, object]:
    """Read a run's ``summary.json``.

    Raises:
        RunError: it is missing or unreadable, or an entry that every summary has is another thing.
    """
    file = path / SUMMARY
    try:
        summary = read_json(file)
    except RunError as error:
        raise RunError(f"{error}{_ADVICE if file.exists() else ''}") from error
    if summary.get("status") not in get_args(Status):
        found = json.dumps(summary["status"])[:60] if "status" in summary else "nothing"
        raise RunError(
            f"{file}: damaged: status is {found}, where {', '.join(get_args(Status))} are"
            f" known{_ADVICE}"
        )
    for name, kinds in _ENTRIES.items():
        if not isinstance(summary.get(name), kinds | None):
            kind = type(summary[name]).__name__
            raise RunError(f"{file}: damaged: {name} is a {kind}, where it cannot be one{_ADVICE}")
    return summary


def read_overrides(path: Path) -> list[str]:
    """What a run was given on the command line; nothing where it left no word of it.

    Raises:
        RunError: the file that holds them cannot be read.
    """
    return read_lines(path / HYDRA / "overrides.yaml")


def _command(path: Path, summary: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The command by the summary; for a killed run, by what Hydra called its job."""
    if isinstance(summary.get("command"), str):
        return str(summary["command"])
    if not config:
        return None
    try:
        hydra = read_yaml(path / HYDRA / "hydra.yaml").get("hydra")
    except RunError:
        return None
    job = hydra.get("job") if isinstance(hydra, Mapping) else None
    name = job.get("name") if isinstance(job, Mapping) else None
    return name if isinstance(name, str) else None
