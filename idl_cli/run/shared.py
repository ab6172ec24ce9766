"""A run directory that several processes work on: one of them writes, the others look on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from idl_cli.run.directory import RunDirectory, Which
from idl_cli.run.metrics import read_metrics
from idl_cli.run.records import METRICS, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from idl_cli.data.preprocessing import Preprocessing
    from idl_cli.data.task import Task


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

    def save_checkpoint(
        self, which: Which, state: object, description: Mapping[str, object]
    ) -> None:
        """Leave it to rank 0."""

    def adopt(self, other: Path) -> None:
        """Leave it to rank 0."""

    def save_model(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing | None,
        task: Task | None,
        name: str = "implicit",
        group: str = "model",
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Leave it to rank 0."""

    def write_json(self, name: str, value: object) -> None:
        """Leave it to rank 0."""

    def write_text(self, name: str, text: str) -> None:
        """Leave it to rank 0."""

    def write_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Leave it to rank 0."""

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: object = None
    ) -> None:
        """Leave it to rank 0."""

    def save_figure(self, name: str, figure: Figure) -> None:
        """Leave it to rank 0."""

    def finish(
        self,
        status: Status,
        metrics: Mapping[str, Any],
        error: str | None = None,
        sections: Mapping[str, object] | None = None,
    ) -> None:
        """Leave it to rank 0."""
