"""Units in which features and targets are of order one, whatever those of the data.

Solvers begin in float32, where squares end at 1e±38, and compare with constants of order one. The
units are powers of two: in float64 another unit changes no digit. Rows are problems of their own,
each in a unit of its own, unless they share a budget, which is in the unit of weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression

_COMFORTABLE = 30
"""Powers of two up to which data are left in their own units."""


@dataclass(frozen=True)
class Units:
    """Sizes to divide features and targets by; weights are in ``target / feature``.

    Args:
        feature: a power of two.
        target: a power of two for each row (rows,) float64.
        largest: of all rows, those of other processes included.
    """

    feature: float
    target: Tensor
    largest: float

    @classmethod
    def of(cls, problem: RowRegression) -> Units:
        """By the median feature and each row's target, or the largest where there is a budget.

        Collective where G is split.
        """
        squares = problem.feature_squares
        squares = squares[squares > 0]
        feature = float(squares.median()) if len(squares) else 1.0
        square = problem.target_square
        largest = problem.partition.largest(float(square.max()) if problem.rows else 0.0)
        if problem.budget is None:
            target = square.new_tensor([_root(each) for each in square.tolist()])
        else:
            target = torch.full_like(square, _root(largest))
        return cls(_root(feature), target, _root(largest))

    @property
    def is_one(self) -> bool:
        """Whether the problem stays as it is."""
        return self.feature == 1 and bool((self.target == 1).all())

    @property
    def weight(self) -> Tensor:
        """The unit of each row's weights (rows, 1)."""
        return (self.target / self.feature)[:, None]

    @property
    def shares(self) -> Tensor:
        """What a row's scaled objective counts for in ``objective`` of their sum (rows,)."""
        return (self.target / self.largest).square()

    def scaled(self, problem: RowRegression) -> RowRegression:
        """The problem in these units, the given one where they are 1; its shift is left out."""
        if self.is_one:
            return problem
        budget = problem.budget
        if budget is not None:
            budget = RowBudget(budget.count, budget.radius / self.largest * self.feature)
        return replace(
            problem,
            gram=problem.gram / self.feature / self.feature,
            cross=problem.cross / self.feature / self.target[:, None],
            target_square=problem.target_square / self.target / self.target,
            l1=problem.penalties / self.feature / self.target if problem.is_penalised else 0.0,
            l2=problem.l2 / self.feature / self.feature,
            budget=budget,
            shift=None,
        )

    def weights(self, scaled: Tensor) -> Tensor:
        """Weights of the problem from those of the scaled one."""
        return scaled * self.weight

    def objective(self, scaled: float) -> float:
        """An objective of the problem from that of the scaled one, summed by ``shares``."""
        return scaled * self.largest * self.largest


def _root(square: float) -> float:
    """The power of two next to the root; 1 where that is near."""
    if not square > 0:
        return 1.0
    power = round(math.log2(square) / 2)
    return 1.0 if abs(power) <= _COMFORTABLE else 2.0**power
