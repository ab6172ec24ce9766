"""What to do when a loss or a gradient is no number."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from idl_cli.errors import NonFiniteError
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import OnNonFinite
from idl_cli.training.weight_average import WeightAverage

_MAX_CONSECUTIVE = 10
_MAX_ROLLBACKS = 5
_LR_FACTOR = 0.5


class NonFiniteRecovery:
    """Acts on non-finite steps as ``trainer.on_nonfinite`` says.

    - ``stop``: raise at once.
    - ``skip``: leave the step out; raise after ten in a row, when nothing is learned any more.
    - ``rollback``: return to the weights and moments of the last ``remember`` (the start of the
      epoch), halve the learning rate and go on with the next batch; raise at the sixth time.

    Args:
        mode: which of these.
        model: whose weights are rolled back.
        optimizer: whose moments are rolled back.
        scheduler: whose learning rate is halved.
        average: that is rolled back with the weights; None where there is none.
        lr_key: what a user lowers; where it is not ``optimizer.lr`` the keys of the gradient
            trainer are not theirs.
    """

    def __init__(
        self,
        mode: OnNonFinite,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Scheduler,
        average: WeightAverage | None = None,
        *,
        lr_key: str = "optimizer.lr",
    ) -> None:
        self._mode = mode
        self._lr_key = lr_key
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._average = average
        self._consecutive = 0
        self._rollbacks = 0
        self._skipped = 0
        self._good: dict[str, Any] | None = None

    @property
    def skipped(self) -> int:
        """Number of steps left out so far."""
        return self._skipped

    def remember(self) -> None:
        """Take the present weights and moments as the ones to return to."""
        if self._mode == "rollback":
            average = None if self._average is None else self._average.state_dict()
            self._good = copy.deepcopy(
                {
                    "model": self._model.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "average": average,
                }
            )

    def succeeded(self) -> None:
        """Note a finite step."""
        self._consecutive = 0

    def failed(self, what: str, where: str) -> None:
        """Deal with a non-finite step.

        Args:
            what: e.g. ``loss`` or ``gradient norm``, with its value.
            where: epoch and step.

        Raises:
            NonFiniteError: training cannot go on.
        """
        message = f"the {what} at {where}"
        if self._mode == "stop":
            more = ", set trainer.clip_norm, or choose trainer.on_nonfinite=skip or rollback"
            own = self._lr_key == "optimizer.lr"
            raise NonFiniteError(f"{message}: lower {self._lr_key}{more if own else ''}")
        self._skipped += 1
        self._consecutive += 1
        if self._consecutive >= _MAX_CONSECUTIVE:
            raise NonFiniteError(
                f"{message}, the {_MAX_CONSECUTIVE}th step in a row: look at the data for NaN, or"
                f" lower {self._lr_key}"
            )
        if self._mode == "skip":
            warnings.warn(f"{message}: step skipped", RuntimeWarning, stacklevel=2)
            return
        self._rollbacks += 1
        if self._rollbacks > _MAX_ROLLBACKS:
            raise NonFiniteError(
                f"{message}, after {_MAX_ROLLBACKS} rollbacks: lower {self._lr_key}, or look at the"
                " data for NaN"
            )
        assert self._good is not None, "something was remembered at the start of the epoch"
        self._model.load_state_dict(self._good["model"])
        self._optimizer.load_state_dict(copy.deepcopy(self._good["optimizer"]))
        if self._average is not None:
            self._average.load_state_dict(self._good["average"])
        self._scheduler.scale(_LR_FACTOR)
        warnings.warn(
            f"{message}: back to the start of the epoch with half the learning rate",
            RuntimeWarning,
            stacklevel=2,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state: counters, and what ``rollback`` returns to."""
        return {
            "consecutive": self._consecutive,
            "rollbacks": self._rollbacks,
            "skipped": self._skipped,
            "good": self._good,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._consecutive = state["consecutive"]
        self._rollbacks = state["rollbacks"]
        self._skipped = state["skipped"]
        self._good = state["good"]
