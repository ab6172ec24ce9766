"""What a training tells, written into its run and shown to its user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from idl_cli.commands.train.resumption import plain
from idl_cli.commands.train.settings import TrainSettings
from idl_cli.loggers import RunLogger
from idl_cli.reporting import TrainingReporter
from idl_cli.run import RunDirectory
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport


class Recorder(Callbacks):
    """Writes down and shows what the trainer tells.

    Args:
        settings: of the run; a checkpoint holds them, so that no other run continues from it.
        directory: where checkpoints go.
        logger: where records go.
        reporter: shows steps and epochs.
    """

    def __init__(
        self,
        settings: TrainSettings,
        directory: RunDirectory,
        logger: RunLogger,
        reporter: TrainingReporter,
    ) -> None:
        self._settings = plain(asdict(settings))
        self._directory = directory
        self._logger = logger
        self._reporter = reporter

    def on_step(self, report: StepReport) -> None:
        """Show the loss."""
        self._reporter.on_step({"loss": report.loss})

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        """Log the records, and show them as one."""
        shown: dict[str, object] = {}
        for record in records:
            self._logger.log(record)
            prefix = "" if record["split"] == "train" else f"{record['split']}_"
            shown.update({f"{prefix}{key}": value for key, value in record.items()})
        self._reporter.on_epoch(shown)

    def on_checkpoint(self, which: Literal["last", "best"], state: dict[str, Any]) -> None:
        """Write the checkpoint."""
        self._directory.save_checkpoint(
            which,
            {
                "trainer": state,
                "metrics_rows": self._directory.metrics_rows,
                "settings": self._settings,
            },
            description={**state["progress"], **state["early_stopping"]},
        )
