"""What runs left behind, read without torch: which directories are runs, how each ended, with what.

A run is a directory that holds a summary, a composed configuration, metrics or checkpoints; it need
not have ended. Runs may be of any age: what a file lacks is left out, what cannot be read is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import yaml

from idl_cli.errors import RunError
from idl_cli.run.files import read_json
from idl_cli.run.lock import is_locked

Status: TypeAlias = Literal["completed", "failed", "interrupted"]

SUMMARY: Final = "summary.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINTS: Final = "checkpoints"
HYDRA: Final = ".hydra"
CONFIG: Final = f"{HYDRA}/config.yaml"
_MARKS: Final = (SUMMARY, CONFIG, METRICS, CHECKPOINTS)


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
    return any((path / mark).exists() for mark in _MARKS)


def find_runs(path: Path) -> list[Path]:
    """The runs in a directory: itself, or those below it at any depth, in natural order.

    What lies inside a run (the teacher it kept, say) is part of that run. Hidden directories and
    symbolic links are passed by.
    """
    return [path] if is_run(path) else list(_below(path))


def _below(path: Path) -> Iterator[Path]:
    try:
        entries = [each for each in os.scandir(path) if each.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    for entry in sorted(entries, key=lambda each: _natural(each.name)):
        if not entry.name.startswith("."):
            yield from find_runs(Path(entry.path))


def _natural(name: str) -> tuple[bool, int, str]:
    """Jobs in the order of their numbers, behind them names."""
    return (not name.isdigit(), int(name) if name.isdigit() else 0, name)


def read_record(path: Path) -> RunRecord:
    """Read a run; a file that is damaged is named in ``error`` and taken as empty."""
    problems = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    if (path / SUMMARY).exists():
        try:
            summary = read_json(path / SUMMARY)
        except RunError as error:
            problems.append(str(error))
    try:
        config = _read_yaml(path / CONFIG)
    except RunError as error:
        problems.append(str(error))
    said = summary.get("error")
    return RunRecord(
        path=path,
        status=_status(path, summary),
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
    status = read_json(path / SUMMARY).get("status")
    if status not in get_args(Status):
        said = "says of no status" if status is None else f"says status={status!r}"
        raise RunError(
            f"{path / SUMMARY}: damaged: {said} ({', '.join(get_args(Status))} are known)"
        )
    return cast(Status, status)


def read_summary(path: Path) -> dict[str, object]:
    """Read a run's ``summary.json``.

    Raises:
        RunError: it is missing or unreadable.
    """
    return read_json(path / SUMMARY)


def _status(path: Path, summary: Mapping[str, Any]) -> str:
    """A summary is the last thing that a run writes, so it goes before the lock."""
    if (path / SUMMARY).exists():
        status = summary.get("status")
        return str(status) if status in get_args(Status) else "unreadable"
    return "running" if is_locked(path) else "killed"


def _command(path: Path, summary: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The command by the summary; for a killed run, by what Hydra called its job."""
    if isinstance(summary.get("command"), str):
        return str(summary["command"])
    if not config:
        return None
    try:
        job = _read_yaml(path / ".hydra" / "hydra.yaml").get("hydra", {}).get("job", {})
    except (RunError, AttributeError):
        return None
    name = job.get("name") if isinstance(job, Mapping) else None
    return name if isinstance(name, str) else None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    try:
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path}: not readable as YAML ({reason})") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: a section of keys is needed, not a {type(value).__name__}")
    return value
