"""Problems with offsets, solved with their features centred: the constant's weight is eliminated.

Minimising over the constant's weight b leaves a row problem of the other features, centred, with
the same penalty and budget on the same weights. The penalty λ|b| is in its way: it is ±λb once b's
sign is known, which is that of the b without a penalty unless the penalty makes b zero. So rows are
solved without a penalty on b, then with ±λb, and those whose b changes sign then without b. Of all
answers of a row the best is taken, by the objective of the problem as stated.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from idl_cli.errors import IgnoredOptionWarning
from idl_cli.sim.regression.attempts import Attempts
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.dual_points import Point
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.shift import Shift
from idl_cli.sim.regression.solver import L1, SolverResult, Start

_CONSTANT: Final = 64 * torch.finfo(torch.float64).eps
"""Share of a sum of squares that is left of a constant feature's when it is centred: rounding."""


def solve_centred(
    problem: RowRegression,
    shift: Shift,
    attempts: Attempts,
    start: Start | None,
    checkpointing: Checkpointing | None,
) -> SolverResult:
    """Solve a problem by means of its shift.

    A restricted rank couples the rows, so that such a solver gets the problem as it stands.

    Args:
        problem: with that shift.
        shift: the problem's.
        attempts: runs the solver.
        start: where to begin.
        checkpointing: of the solves of all rows. Each begins at the checkpoint of its own form.
    """
    with warnings.catch_warnings():
        # A checkpoint is of one of the forms, and no news to the other.
        warnings.filterwarnings("ignore", "the iterate that was kept", IgnoredOptionWarning)
        centred = Centred.of(problem, shift)
        penalised = L1 in attempts.solver.handles and bool((problem.penalties > 0).any())
        free = torch.zeros_like(shift.targets)
        result = attempts.run(centred.rows(free), start, checkpointing)
        if result.factors is not None:
            return attempts.run(problem, start, checkpointing)
        weights = centred.completed(result.weights, free)
        if not penalised:
            return replace(result, weights=weights)
        best = _Best(problem, weights)
        sign = weights[:, shift.constant].sign()
        following = attempts.run(
            centred.rows(sign), Start(result.weights, result.memory), checkpointing
        )
        weights = centred.completed(following.weights, sign)
        wrong = weights[:, shift.constant] * sign < 0
        best.offer(torch.where(wrong[:, None], best.weights, weights))
        if problem.partition.anywhere(bool(wrong.any())):
            rows = wrong.nonzero().squeeze(1)
            without = centred.without(rows)
            best.offer(best.weights.index_copy(0, rows, attempts.run(without).weights))
        return replace(following, weights=best.weights)


class _Best:
    """The best weights (rows, D) offered of each row."""

    def __init__(self, problem: RowRegression, weights: Tensor) -> None:
        self._problem = problem
        self.weights = weights
        self._values = self._objective(weights)

    def _objective(self, weights: Tensor) -> Tensor:
        point = Point.at(self._problem, weights)
        return 0.5 * point.residual + point.penalty * point.norm

    def offer(self, weights: Tensor) -> None:
        values = self._objective(weights)
        better = values <= self._values
        self.weights = torch.where(better[:, None], weights, self.weights)
        self._values = torch.where(better, values, self._values)


@dataclass(frozen=True, eq=False)
class Centred:
    """A problem, its centred G (of this process's columns), and G̃'s column of the constant."""

    problem: RowRegression
    shift: Shift
    gram: Tensor
    column: Tensor
    kept: Tensor

    @classmethod
    def of(cls, problem: RowRegression, shift: Shift) -> Centred:
        """By the problem's own shift; collective where G is split."""
        inner, c = problem.accurate, shift.constant
        unit = torch.zeros_like(shift.features)
        unit[c] = 1.0
        column = inner.multiply_shared(unit)
        squares = inner.feature_squares
        left = squares - column.square() / column[c]
        # What centring leaves of another constant is rounding, and its weight is b's to choose.
        kept = (left > _CONSTANT * squares).to(squares)
        kept[c] = 0.0
        columns = inner.columns
        gram = inner.gram - torch.outer(column / column[c], column[columns])
        gram = gram * kept[:, None] * kept[columns]
        return cls(problem, shift, gram, column, kept)

    def rows(self, sign: Tensor) -> RowRegression:
        """The problem with b eliminated, its penalty taken for λ·sign·b (rows,)."""
        inner, pull = self.shift, self.problem.penalties * sign
        share = (inner.cross[:, self.shift.constant] - pull) / self._count
        cross = inner.cross - torch.outer(share, self.column)
        cross = (cross + torch.outer(pull, self.shift.features)) * self.kept
        explained = inner.cross[:, self.shift.constant].square() / self._count
        square = (inner.target_square - explained).clamp(min=0)
        return replace(self.problem, gram=self.gram, cross=cross, target_square=square, shift=None)

    def completed(self, weights: Tensor, sign: Tensor) -> Tensor:
        """Weights (rows, D) with the best b for that sign."""
        c, inner = self.shift.constant, self.shift
        result = weights * self.kept
        pull = inner.cross[:, c] - self.problem.penalties * sign
        centre = (pull - result @ self.column) / self._count
        result[:, c] = centre + self.shift.targets - result @ self.shift.features
        return result

    def without(self, rows: Tensor) -> RowRegression:
        """The problem of some rows without the constant feature."""
        part, c = self.problem.select(rows), self.shift.constant
        present = torch.ones_like(self.kept)
        present[c] = 0.0
        columns = part.columns
        gram = part.gram * present[:, None] * present[columns]
        return replace(part, gram=gram, cross=part.cross * present, shift=None)

    @property
    def _count(self) -> Tensor:
        """Σ s_c²."""
        return self.column[self.shift.constant]
