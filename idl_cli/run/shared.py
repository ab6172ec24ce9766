"""A run directory in other processes than its own: lent to one, looked at, marked after a death."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from idl_cli.masking import masked_text
from idl_cli.run.directory import LOG, RunDirectory
from idl_cli.run.metrics_file import read_metrics
from idl_cli.run.records import METRICS, Status, read_record


class LentRunDirectory(RunDirectory):
    """A run directory written by a process that the holder of its lock started for that.

    Args:
        path: the directory.
        command: the sub-command that runs.
        seed: the run's seed.
    """

    def __init__(self, path: Path | str, *, command: str, seed: int | None = None) -> None:
        self.path = Path(path)
        self.command = command
        self.seed = seed
        self._started = time.monotonic()
        self._lock = None  # its holder has it
        self._metrics_rows = len(read_metrics(self.path)) if (self.path / METRICS).exists() else 0

    def close(self) -> None:
        """Leave the lock to its holder."""


class ObservedRunDirectory(LentRunDirectory):
    """A run directory as the ranks see it that do not write: reads what is there, writes nothing.

    What rank 0 writes may be there later than these ranks look, or never: on another machine there
    may be no such directory. Whatever decides what ranks do is read by rank 0 and sent to them.
    """

    writes = False

    def refuse_removed(self) -> None:
        """Ask nothing of a directory that may be on another machine alone."""

    def append_metrics(self, row: Mapping[str, object]) -> None:
        """Count the row that rank 0 writes."""
        self._metrics_rows += 1

    def truncate_metrics(self, rows: int) -> None:
        """Count the rows that rank 0 keeps."""
        self._metrics_rows = rows

    def replace_metrics(self, rows: list[dict[str, object]]) -> None:
        """Count the rows that rank 0 writes."""
        self._metrics_rows = len(rows)


def mark_failed(path: Path, *, command: str, error: str) -> None:
    """Write for a run whose process died what it could not write itself: that it failed, and why.

    Raises:
        RunError: the run lives.
    """
    _mark(path, command, "failed", error)


def mark_interrupted(path: Path, *, command: str) -> None:
    """Write for a run whose process had to be killed at an interruption that it was interrupted.

    Raises:
        RunError: the run lives.
    """
    _mark(path, command, "interrupted", None)


def _mark(path: Path, command: str, status: Status, error: str | None) -> None:
    seed = read_record(path).config.get("seed")
    with RunDirectory(path, command=command, seed=seed, resume=True) as directory:
        with (path / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{masked_text(error or status)}\n")
        directory.finish(status, {}, error)
