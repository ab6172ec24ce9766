"""Unit-diagonal coordinates of a row problem: every feature with the same second moment.

With v = d·w, d_j = √G_jj, the gram matrix has ones on its diagonal and the l1 norm becomes
Σ |v_j|/d_j, whose prox is as exact as before. Splitting and gradient methods converge at a rate set
by the spread of the eigenvalues, most of which (dark and bright pixels, states of different layers)
is only a matter of units.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.solvers.ridge import BlockInverse, EigenInverse, RidgeInverse
from idl_cli.sim.statistics.block_matrix import ColumnBlocks


@dataclass(frozen=True, eq=False)
class ScaledProblem:
    """A row problem in unit-diagonal coordinates.

    Attributes:
        gram: (D, D) float64, ones on the diagonal (zeros for features that are zero throughout).
        cross: (rows, D) float64.
        cost: (D,) float64, 1/d: the penalty is l1·Σ cost_j |v_j|, the budget likewise.
        source: the problem in its own coordinates.
        blocks: how the columns of gram are split over processes, each of which then has a (D, w)
            block of it and rows of its own; None where gram is whole.
        whole: the problem of which these are some rows; None where these are all.
    """

    gram: Tensor
    cross: Tensor
    cost: Tensor
    source: RowRegression
    blocks: ColumnBlocks | None = None
    whole: ScaledProblem | None = None

    @classmethod
    def of(cls, problem: RowRegression, known: object = None) -> ScaledProblem:
        """Scale a problem; its l2 term is folded into the gram matrix.

        Args:
            problem: what to scale.
            known: what may be returned instead of a new one: a ``ScaledProblem`` made from the same
                statistics (the same tensors) at another penalty. Anything else is ignored.
        """
        if isinstance(known, ScaledProblem) and known._serves(problem):
            return known
        deviation = problem.feature_squares.clamp(min=0).sqrt()
        # A feature that is zero throughout has h_j = 0: any unit serves, its weight stays zero.
        cost = torch.where(deviation > 0, 1.0 / deviation, torch.ones_like(deviation))
        gram = problem.scaled_gram(cost)
        return cls(gram, problem.cross * cost, cost, problem, problem.split)

    @cached_property
    def inverse(self) -> RidgeInverse:
        """(G + ρI)⁻¹ for any ρ, made when first asked for, once for all selections of rows."""
        if self.whole is not None:
            return self.whole.inverse
        if self.blocks is not None:
            return BlockInverse(self.gram, self.blocks)
        return EigenInverse(self.gram)

    def multiply(self, values: Tensor) -> Tensor:
        """V G (rows, D); collective where G is split."""
        if self.blocks is None:
            return values @ self.gram
        return self.blocks.multiply(values, self.gram)

    def select(self, rows: Tensor) -> ScaledProblem:
        """The problem of some rows only (index or mask)."""
        source, whole = self.source.select(rows), self.whole or self
        return ScaledProblem(self.gram, self.cross[rows], self.cost, source, self.blocks, whole)

    def to_weights(self, scaled: Tensor) -> Tensor:
        """W = v / d, in float64 (rows, D)."""
        return scaled.to(self.cost) * self.cost

    def from_weights(self, weights: Tensor) -> Tensor:
        """V = d·w (rows, D)."""
        return weights.to(self.cost) / self.cost

    def _serves(self, problem: RowRegression) -> bool:
        mine = self.source
        return problem.gram is mine.gram and problem.cross is mine.cross and problem.l2 == mine.l2
