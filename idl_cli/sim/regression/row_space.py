"""The norm of a least-squares gap: gradients g measured by ½ gᵀG⁺g.

No scaling of the residual sees flat directions: a gradient that is small in every entry can still
promise a large decrease along a direction in which G is small.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.statistics.block_matrix import ColumnBlocks

_EPS: Final = torch.finfo(torch.float64).eps
_REFINEMENTS = 2


class RowSpace:
    """Solves G x = d for d in the row space of the samples, in unit-diagonal coordinates.

    The factor is of the unit-diagonal Ĝ + δI, δ = 8·max(D, 16)·eps: what Ĝ has below δ is rounding
    of its sums. Each refinement takes the error along an eigenvalue λ down by δ/(λ + δ); what is
    left of d after them lies where Ĝ says nothing.

    Args:
        gram: G (D, D) float64; where it is split, this process's columns (D, w).
        squares: its diagonal (D,).
        blocks: how the columns are split, None for not at all; all methods are collective then.
    """

    def __init__(self, gram: Tensor, squares: Tensor, blocks: ColumnBlocks | None = None) -> None:
        deviation = squares.clamp(min=0).sqrt()
        self._cost = torch.where(deviation > 0, 1.0 / deviation, torch.zeros_like(deviation))
        self._blocks = blocks
        shift = 8 * max(len(squares), 16) * _EPS
        if blocks is not None:
            self._gram = blocks.scaled(gram, self._cost)
            self._factor = blocks.inverse(blocks.shifted(self._gram, shift))
            return
        self._gram = gram * self._cost[:, None] * self._cost
        while True:
            shifted = self._gram.clone()
            shifted.diagonal().add_(shift)
            self._factor, info = torch.linalg.cholesky_ex(shifted)
            if int(info) == 0:
                break
            shift *= 10

    def solve(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solve for right-hand sides d (rows, D), in the given units.

        Returns:
            dᵀG⁺d (rows,), as far as Ĝ can be told from zero; the largest entry of what it leaves of
            d (rows,) and ‖x‖₁ (rows,), both in unit-diagonal coordinates.
        """
        right = rows * self._cost
        solution = self._apply(right)
        for _ in range(_REFINEMENTS):
            solution = solution + self._apply(right - self._multiply(solution))
        left = (right - self._multiply(solution)).abs().amax(dim=1)
        return (right * solution).sum(dim=1).clamp(min=0), left, solution.abs().sum(dim=1)

    def norms(self, rows: Tensor) -> Tensor:
        """‖d‖² (rows,) in unit-diagonal coordinates; dᵀG⁺d is at least a D-th of it."""
        return (rows * self._cost).square().sum(dim=1)

    def _apply(self, rows: Tensor) -> Tensor:
        if self._blocks is not None:
            return self._blocks.multiply(rows, self._factor)
        return torch.cholesky_solve(rows.T, self._factor).T

    def _multiply(self, rows: Tensor) -> Tensor:
        if self._blocks is not None:
            return self._blocks.multiply(rows, self._gram)
        return rows @ self._gram
