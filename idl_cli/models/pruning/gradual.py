"""Gradual magnitude pruning: prune and train in turns (Zhu and Gupta, arXiv 1710.01878).

From step 0 to the last pruning step the share of zeros follows their cubic schedule, eq. (1),
s_t = s_f + (s_0 - s_f)(1 - t/T)³: many weights go while many are superfluous, few near the end.
Afterwards the network trains on with its zeros kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idl_cli.models.pruning.counts import count_nonzeros, weights_to_keep
from idl_cli.models.pruning.magnitude import prune_by_magnitude

PRUNING = 0.6
"""Share of the steps within which weights go; the others are for recovering."""
TIMES = 100
"""Prunings within it: the paper's "every 100 to 1,000 steps" would be few in a short training."""


@dataclass(frozen=True)
class GradualSchedule:
    """How many weights are left when.

    Attributes:
        begin: weights at the first step.
        end: weights at the last pruning step, and from there on.
        steps: optimiser steps of the whole training.
    """

    begin: int
    end: int
    steps: int

    def nonzeros_at(self, step: int) -> int:
        """Weights left after ``step`` optimiser steps."""
        left = (1 - min(step / self._last, 1.0)) ** 3
        return round(self.end + (self.begin - self.end) * left)

    def is_due(self, step: int) -> bool:
        """Whether weights go after ``step`` steps."""
        every = max(1, self._last // TIMES)
        return step == self._last or (step < self._last and step % every == 0)

    @property
    def _last(self) -> int:
        return max(1, round(PRUNING * self.steps))


class GradualPruning:
    """Prunes a network while somebody trains it.

    Args:
        model: pruned in place by ``after_step``.
        nonzeros: weights and biases that are left at the end.
        steps: optimiser steps of the whole training.

    Raises:
        ArgumentError: fewer than the biases alone.
    """

    def __init__(self, model: nn.Module, nonzeros: int, *, steps: int) -> None:
        weights_to_keep(model, nonzeros)
        self._model = model
        self._schedule = GradualSchedule(count_nonzeros(model), nonzeros, steps)
        self._zeros: list[tuple[nn.Parameter, Tensor]] = []

    def nonzeros_at(self, step: int) -> int:
        """Weights and biases left after ``step`` optimiser steps."""
        return self._schedule.nonzeros_at(step)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Hold the zeros, and set more to zero where it is time.

        Args:
            step: optimiser steps made, from 1.
        """
        for parameter, zeros in self._zeros:
            parameter.masked_fill_(zeros, 0.0)
        if self._schedule.is_due(step):
            prune_by_magnitude(self._model, self.nonzeros_at(step))
            self._zeros = [(p, p == 0) for p in self._model.parameters() if p.ndim >= 2]
