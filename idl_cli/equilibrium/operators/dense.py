"""A full matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.equilibrium.constraints import row_l1_norms
from idl_cli.equilibrium.operators.base import (
    PROBES,
    Operator,
    growth_over_two,
    without_graph,
)


class DenseOperator(Operator):
    """A full matrix A (rows, columns)."""

    def __init__(self, matrix: Tensor) -> None:
        self.factors = (matrix,)
        self.matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @cached_property
    def _transpose(self) -> Tensor:
        return self.matrix.t()

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        return torch.addmm(offset, x, self._transpose, out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        return torch.addmm(offset, v, self.matrix, out=out)

    @cached_property
    def magnitudes(self) -> Operator:
        """|A|."""
        return DenseOperator(without_graph(self.matrix).abs())

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂A = Σ v xᵀ."""
        return (v.t() @ x if needed[0] else None,)

    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows, in float64 (rows,)."""
        return row_l1_norms(self.matrix)

    @torch.no_grad()
    def growth(self) -> float:
        """Return an estimate of ρ(A) as of every operator, of products of some of its own rows."""
        rows = self.matrix[:: max(1, len(self.matrix) // PROBES)][:PROBES]
        second = rows @ self.matrix
        return growth_over_two(second, second @ self.matrix @ self.matrix)

    def to_dense(self) -> Tensor:
        """Return A itself."""
        return self.matrix
