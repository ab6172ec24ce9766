"""TensorBoard event files inside the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from idl_cli.errors import MissingExtraError
from idl_cli.loggers.base import MetricLogger, RunFacts, numbers_in, step_of
from idl_cli.loggers.options import TensorboardOptions
from idl_cli.run import RunDirectory
from idl_cli.run.records import Status

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLogger(MetricLogger):
    """Event files under ``tensorboard/`` in the run: scalars, figures, hyper-parameters.

    Args:
        run_directory: of the run.
        flush_seconds: s between writes to the event file.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(
        self, *, run_directory: RunDirectory, flush_seconds: int = TensorboardOptions.flush_seconds
    ) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError as error:
            raise MissingExtraError(
                "logger=tensorboard needs TensorBoard: pip install 'idl-cli[tensorboard]'"
            ) from error
        self._library = tensorboard
        self._directory = run_directory.path / "tensorboard"
        self._flush_seconds = flush_seconds
        self._hyperparameters: dict[str, int | float | str | bool] = {}
        self._writer: SummaryWriter | None = None

    def start(self, facts: RunFacts) -> None:
        """Open an event file; what earlier ones hold beyond the resumed step is purged."""
        # Rows of the resumed step itself were written before its checkpoint and are kept.
        purge = None if facts.resumed_step is None else facts.resumed_step + 1
        self._writer = self._library.SummaryWriter(
            str(self._directory), flush_secs=self._flush_seconds, purge_step=purge
        )
        self._hyperparameters = {
            key: value if isinstance(value, int | float | str | bool) else str(value)
            for key, value in facts.hyperparameters.items()
        }
        rows = "\n".join(f"| {key} | {value} |" for key, value in self._hyperparameters.items())
        self._writer.add_text("configuration", f"| key | value |\n|---|---|\n{rows}", purge or 0)

    def log(self, row: Mapping[str, object]) -> None:
        """Write a row's numbers as ``split/name`` at its step."""
        assert self._writer is not None
        for name, value in numbers_in(row).items():
            self._writer.add_scalar(name, value, step_of(row))

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Write the figures, and the hyper-parameters with the metrics they led to."""
        assert self._writer is not None
        for path in figures:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
        # add_hparams would open a second run for this; its parts go into the run's own file
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in metrics.items()}
        for part in hparams(self._hyperparameters, final):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(part)  # type: ignore[no-untyped-call]
        for name, value in final.items():
            self._writer.add_scalar(name, value)

    def close(self, status: Status) -> None:
        """Write the events still held back."""
        if self._writer is not None:
            self._writer.close()
