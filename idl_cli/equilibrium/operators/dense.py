"""A full matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

# |A| of so many entries takes longer to form than a product with few samples, most of that for
# memory that is asked for anew: 66 ms beside 7 ms for 4,000 states.
_LARGE = 2**21
# Entries of a part of |A|, which stays in the cache.
_PART = 2**17


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
        """|A|, formed where that takes little."""
        if self.matrix.numel() >= _LARGE and not self.matrix.is_cuda:
            return _LargeMagnitude(self.matrix)
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


class _LargeMagnitude(DenseOperator):
    """|A|, by A (rows, columns): made in parts for each product, never held whole."""

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        matrix = without_graph(self.matrix)
        count = max(1, _PART // matrix.shape[1])
        for first in range(0, len(matrix), count):
            rows = slice(first, first + count)
            yield rows, matrix[rows].abs()

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return |A| x + offset."""
        out = torch.empty_like(offset) if out is None else out
        for rows, part in self._parts():
            torch.addmm(offset[:, rows], x, part.t(), out=out[:, rows])
        return out

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return |A|ᵀ v + offset."""
        out = offset.clone() if out is None else out.copy_(offset)
        for rows, part in self._parts():
            out.addmm_(v[:, rows], part)
        return out

    def to_dense(self) -> Tensor:
        """Return |A|."""
        return without_graph(self.matrix).abs()
