"""What the trainer tells whoever listens: progress, records, states worth keeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

EpochRecord = dict[str, float | int | str]
"""One row of ``metrics.jsonl``."""


@dataclass(frozen=True)
class StepReport:
    """Where a training stands after an optimiser step.

    Attributes:
        epoch: the present epoch, from 1.
        epochs: epochs asked for.
        batch: batches of this epoch used so far.
        batches: batches in an epoch.
        step: optimiser steps made.
        loss: mean of the objective over this epoch so far; NaN before its first finite step.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    step: int
    loss: float


class Callbacks:
    """Listens to a trainer; every method does nothing until a subclass overrides it."""

    def on_step(self, report: StepReport) -> None:
        """After every optimiser step."""

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        """After every epoch: one record for the training part, one for the validation part."""

    def on_checkpoint(self, which: Literal["last", "best"], state: dict[str, Any]) -> None:
        """Whenever the state is worth keeping: after the records of its epoch.

        The state holds the live tensors: write or copy it before returning.
        """
