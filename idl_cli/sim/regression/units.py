"""Units in which features and targets are of order one, whatever those of the data.

Solvers begin in float32, where squares end at 1e±38, and compare with constants of order one. The
units are powers of two: in float64 another unit changes no digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression

_COMFORTABLE = 30
"""Powers of two up to which data are left in their own units."""


@dataclass(frozen=True)
class Units:
    """Sizes to divide features and targets by; weights are in ``target / feature``.

    Args:
        feature: a power of two.
        target: a power of two.
    """

    feature: float
    target: float

    @classmethod
    def of(cls, problem: RowRegression) -> Units:
        """By the median feature and the largest target; collective where G is split."""
        squares = problem.feature_squares
        squares = squares[squares > 0]
        feature = float(squares.median()) if len(squares) else 1.0
        target = float(problem.target_square.max()) if problem.rows else 0.0
        return cls(_root(feature), _root(problem.partition.largest(target)))

    @property
    def weight(self) -> float:
        """The unit of weights."""
        return self.target / self.feature

    def scaled(self, problem: RowRegression) -> RowRegression:
        """The problem in these units, the given one where they are 1; its shift is left out."""
        if self.feature == self.target == 1:
            return problem
        budget = problem.budget
        if budget is not None:
            budget = RowBudget(budget.count, budget.radius / self.weight)
        return replace(
            problem,
            gram=problem.gram / self.feature / self.feature,
            cross=problem.cross / self.feature / self.target,
            target_square=problem.target_square / self.target / self.target,
            l1=problem.l1 / self.feature / self.target,
            l2=problem.l2 / self.feature / self.feature,
            budget=budget,
            shift=None,
        )

    def weights(self, scaled: Tensor) -> Tensor:
        """Weights of the problem from those of the scaled one."""
        return scaled * self.weight

    def objective(self, scaled: float) -> float:
        """An objective of the problem from that of the scaled one."""
        return scaled * self.target * self.target


def _root(square: float) -> float:
    """The power of two next to the root; 1 where that is near."""
    if not square > 0:
        return 1.0
    power = round(math.log2(square) / 2)
    return 1.0 if abs(power) <= _COMFORTABLE else 2.0**power
