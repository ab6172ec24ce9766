"""Which epoch is the best one, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from idl_cli.data.task import Task
from idl_cli.errors import ArgumentError
from idl_cli.training.settings import EarlyStoppingSettings

_HIGHER_IS_BETTER = ("accuracy", "r2", "certified_accuracy", "attacked_accuracy")


class EarlyStopping:
    """Follows a validation metric.

    Args:
        settings: what to watch, and for how long.
        task: decides ``auto`` and which metrics exist.
        robust_figure: name of the robust accuracy, which ``auto`` is then; None without one.

    Raises:
        ArgumentError: the task does not have that metric.
    """

    def __init__(
        self, settings: EarlyStoppingSettings, task: Task, robust_figure: str | None = None
    ) -> None:
        available = ("accuracy", "loss") if task.kind == "classification" else ("loss", "r2", "mse")
        if robust_figure is not None:
            available = (robust_figure, *available)
        metric = available[0] if settings.metric == "auto" else settings.metric
        if metric not in available:
            raise ArgumentError(
                f"trainer.early_stopping.metric={metric}: a {task.kind} has {', '.join(available)}"
            )
        self.metric = metric
        self._settings = settings
        self._sign = 1.0 if metric in _HIGHER_IS_BETTER else -1.0
        self._best: float | None = None
        self._best_loss: float | None = None
        self._best_epoch: int | None = None
        self._reference: float | None = None
        self._waited = 0

    @property
    def best(self) -> float | None:
        """Best value so far, None before the first."""
        return self._best

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the best value; among equal ones, that of the lowest loss."""
        return self._best_epoch

    @property
    def should_stop(self) -> bool:
        """Whether ``patience`` epochs have passed without an improvement by ``min_delta``."""
        patience = self._settings.patience
        return patience is not None and self._waited >= patience

    def update(self, figures: Mapping[str, float], epoch: int) -> bool:
        """Take in an epoch's figures; say whether it is the best so far, by however little.

        A small validation part gives many epochs the same accuracy: of those the loss decides.
        NaN is never an improvement.
        """
        value, loss = figures[self.metric], figures["loss"]
        if self._better(value, self._reference, self._settings.min_delta):
            self._reference, self._waited = value, 0
        else:
            self._waited += 1
        tie = value == self._best and self._best_loss is not None and loss < self._best_loss
        if not (tie or self._better(value, self._best, 0.0)):
            return False
        self._best, self._best_loss, self._best_epoch = value, loss, epoch
        return True

    def _better(self, value: float, reference: float | None, margin: float) -> bool:
        if math.isnan(value):
            return False
        return reference is None or self._sign * (value - reference) > margin

    def state_dict(self) -> dict[str, float | int | None]:
        """Return the state, as plain values."""
        return {
            "best": self._best,
            "best_loss": self._best_loss,
            "best_epoch": self._best_epoch,
            "reference": self._reference,
            "waited": self._waited,
        }

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """Continue from a state."""
        best_epoch, waited = state["best_epoch"], state["waited"]
        assert best_epoch is None or isinstance(best_epoch, int)
        assert isinstance(waited, int)
        self._best, self._best_loss = state["best"], state["best_loss"]
        self._reference = state["reference"]
        self._best_epoch, self._waited = best_epoch, waited
