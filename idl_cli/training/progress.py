"""Where a training stands, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

StopReason = Literal["epochs", "early_stopping", "max_time"]


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: epochs completed.
        batch: batches of the present epoch that have been used.
        step: optimiser steps made.
        epoch_seconds: wall-clock seconds spent in the present epoch's training pass.
        data_seconds: those of them in which batches were drawn.
        seconds: wall-clock seconds spent in all passes so far, validation included.
        lr: learning rate of the last step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    epoch_seconds: float = 0.0
    data_seconds: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0


@dataclass
class Clock:
    """Adds the time between two readings to a progress."""

    progress: Progress
    last: float = field(default_factory=time.perf_counter)

    def read(self, *, in_epoch: bool) -> float:
        """Add the seconds since the last reading, to the epoch's too if asked; return them."""
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        self.progress.seconds += passed
        if in_epoch:
            self.progress.epoch_seconds += passed
        return passed


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        reason: what ended it.
        epochs: epochs completed.
        steps: optimiser steps made.
        seconds: wall-clock seconds, those before a resume included.
        skipped_steps: steps left out because of a non-finite loss or gradient.
        best_epoch: the epoch that the validation metric chose; None without a validation part.
        best_metric: that metric's value.
        metric: that metric's name.
    """

    reason: StopReason
    epochs: int
    steps: int
    seconds: float
    skipped_steps: int
    best_epoch: int | None
    best_metric: float | None
    metric: str
