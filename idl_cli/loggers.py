"""Where a run's metrics go: always into ``metrics.jsonl``, and where else the user wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from idl_cli.errors import MissingExtraError
from idl_cli.run import RunDirectory


class MetricLogger(Protocol):
    """Keeps rows of metrics; what the config group ``logger`` makes."""

    def log(self, row: Mapping[str, object]) -> None:
        """Keep one row; its keys are those of ``metrics.jsonl``."""

    def close(self) -> None:
        """Write what is still held back."""


class NoLogger:
    """Keeps no rows: for a process whose rows another one keeps."""

    def log(self, row: Mapping[str, object]) -> None:
        """Forget one row."""

    def close(self) -> None:
        """Do nothing: nothing is held back."""


class JsonlLogger:
    """Rows into the run's ``metrics.jsonl``, each there as soon as it is logged.

    Args:
        run_directory: of the run.
    """

    def __init__(self, *, run_directory: RunDirectory) -> None:
        self._run_directory = run_directory

    def log(self, row: Mapping[str, object]) -> None:
        """Append one row."""
        self._run_directory.append_metrics(row)

    def close(self) -> None:
        """Do nothing: nothing is held back."""


class TensorBoardLogger:
    """Rows into ``metrics.jsonl`` and into event files under ``tensorboard/`` in the run.

    Args:
        run_directory: of the run.
        flush_seconds: s between writes to the event file.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, *, run_directory: RunDirectory, flush_seconds: int = 30) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "logger=tensorboard needs TensorBoard: pip install 'idl-cli[tensorboard]'"
            ) from error
        self._run_directory = run_directory
        self._writer = SummaryWriter(
            str(run_directory.path / "tensorboard"), flush_secs=flush_seconds
        )

    def log(self, row: Mapping[str, object]) -> None:
        """Append one row; its numbers become ``split/name`` at the row's step."""
        self._run_directory.append_metrics(row)
        split, step = row.get("split", "run"), row.get("step")
        for name, value in row.items():
            if name in ("step", "epoch") or isinstance(value, bool):
                continue
            if isinstance(value, (int, float)):
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Write the events still held back."""
        self._writer.close()
