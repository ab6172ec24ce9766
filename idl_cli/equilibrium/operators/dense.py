"""A full matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.equilibrium.constraints import row_l1_norms
from idl_cli.equilibrium.operators.base import Operator


class DenseOperator(Operator):
    """A full matrix A (rows, columns)."""

    def __init__(self, matrix: Tensor) -> None:
        self.factors = (matrix,)
        self.matrix = matrix
        self._transpose = matrix.t()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        return torch.addmm(offset, x, self._transpose, out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        return torch.addmm(offset, v, self.matrix, out=out)

    @cached_property
    def magnitudes(self) -> Operator:
        """|A|."""
        return DenseOperator(self.matrix.detach().abs())

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂A = Σ v xᵀ."""
        return (v.t() @ x if needed[0] else None,)

    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows, in float64 (rows,)."""
        return row_l1_norms(self.matrix)

    def to_dense(self) -> Tensor:
        """Return A itself."""
        return self.matrix
