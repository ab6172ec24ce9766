"""A product of two thin factors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.equilibrium.constraints import row_l1_norms
from idl_cli.equilibrium.operators.base import Operator

# Rows of A = L Rᵀ formed at a time where their norms are asked for.
_BLOCK = 256


class LowRankOperator(Operator):
    """A = L Rᵀ by its thin factors L and R (n, r); the product is never formed.

    Args:
        left: L (n, r).
        right: R (n, r).
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self.factors = (left, right)
        self._left = left
        self._right = right

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return self._left.shape[0], self._right.shape[0]

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return L (Rᵀ x) + offset."""
        return torch.addmm(offset, x @ self._right, self._left.t(), out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return R (Lᵀ v) + offset."""
        return torch.addmm(offset, v @ self._left, self._right.t(), out=out)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂L = Σ v (Rᵀx)ᵀ and ∂R = Σ x (Lᵀv)ᵀ."""
        left = v.t() @ (x @ self._right) if needed[0] else None
        right = x.t() @ (v @ self._left) if needed[1] else None
        return left, right

    @torch.no_grad()
    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows of the product, in float64, some rows at a time."""
        left, right = self._left.double(), self._right.double()
        return torch.cat([row_l1_norms(rows @ right.t()) for rows in torch.split(left, _BLOCK)])

    @torch.no_grad()
    def frobenius_norm(self) -> float:
        """Return ‖L Rᵀ‖_F, by the Gram matrices of L and R."""
        left, right = self._left, self._right
        squares = ((left.t() @ left) * (right.t() @ right)).sum()
        return math.sqrt(max(0.0, float(squares)))

    def to_dense(self) -> Tensor:
        """Return L Rᵀ."""
        return self._left @ self._right.t()
