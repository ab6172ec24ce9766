"""A strictly upper triangular matrix of few non-zeros, solved level by level."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators.base import NilpotentOperator
from idl_cli.equilibrium.operators.pattern import SparsePattern, compressed_rows
from idl_cli.equilibrium.operators.sparse import SparseOperator


class SparseTriangularOperator(SparseOperator, NilpotentOperator):
    """A strictly upper triangular A (n, n) by its non-zeros.

    A level, states that do not feed each other, is one product with its own rows of A.
    """

    @torch.no_grad()
    def swept_state(self, offset: Tensor, activation: Activation) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + b)."""
        x = offset.t().clone(memory_format=torch.contiguous_format)
        for part, rows in _levels(self.pattern, self._values, self.pattern.sweep_blocks):
            z = x[part] if rows is None else torch.addmm(x[part], rows, x)
            x[part] = activation.in_place(z)
        return x.t().contiguous()

    @torch.no_grad()
    def swept_adjoint(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return the v (m, n) with v = d ⊙ (g + Aᵀv)."""
        pattern = self.pattern
        values = self._values[pattern.by_column]
        v = gradient.t().clone(memory_format=torch.contiguous_format)
        slopes = slopes.t()
        for part, rows in _levels(pattern.transposed, values, pattern.sweep_blocks[::-1]):
            total = v[part] if rows is None else torch.addmm(v[part], rows, v)
            torch.mul(total, slopes[part], out=v[part])
        return v.t().contiguous()

    def antitransposed(self) -> SparseTriangularOperator:
        """Return A reflected at its other diagonal."""
        pattern = self.pattern
        values = self._values[pattern.by_column].flip(0)
        return SparseTriangularOperator(values, pattern.antitransposed)


def _levels(
    pattern: SparsePattern, values: Tensor, blocks: list[tuple[int, int]]
) -> Iterator[tuple[slice, Tensor | None]]:
    """Give each block of states and their rows of the matrix; None where these are zero."""
    starts = pattern.starts
    ends: list[int] = starts.tolist()
    for start, stop in blocks:
        first, last = ends[start], ends[stop]
        rows = None
        if last > first:
            rows = compressed_rows(
                starts[start : stop + 1] - first,
                pattern.indices[first:last],
                values[first:last],
                (stop - start, pattern.shape[1]),
            )
        yield slice(start, stop), rows
