"""A matrix of few non-zeros, multiplied in proportion to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from idl_cli.equilibrium.operators.base import Operator
from idl_cli.equilibrium.operators.pattern import SparsePattern
from idl_cli.equilibrium.transforms import transforming

# A product goes over the samples' values once a row: of so many at a time, which stay in the cache,
# 1,000 samples of 2,000 values take a ninth of the time. With fewer samples a row is too short.
_CACHED_VALUES = 2**16
_FEW_SAMPLES = 16


class SparseOperator(Operator):
    """A matrix A by its non-zeros; its gradient is that of the non-zeros alone.

    Products are taken in compressed rows, and return states apart in memory. Where a graph or a
    transform asks for the derivative of a product, the full matrix is formed.

    Args:
        values: of the non-zeros (k,), in the order of the pattern.
        pattern: where they are.
    """

    def __init__(self, values: Tensor, pattern: SparsePattern) -> None:
        self.factors = (values,)
        self._values = values
        self.pattern = pattern

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return self.pattern.shape

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes a matrix of this pattern of other values."""
        return partial(type(self), pattern=self.pattern)

    @cached_property
    def _rows(self) -> Tensor:
        return self.pattern.compressed(self._values)

    @cached_property
    def _columns(self) -> Tensor:
        pattern = self.pattern
        return pattern.transposed.compressed(self._values.detach()[pattern.by_column])

    @cached_property
    def magnitudes(self) -> Operator:
        """|A|."""
        return SparseOperator(self._values.detach().abs(), self.pattern)

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        if self._recorded(x, offset):
            return torch.addmm(offset, x, self.to_dense().t())
        return _product(self._rows, x, offset)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        if self._recorded(v, offset):
            return torch.addmm(offset, v, self.to_dense())
        return _product(self._columns, v, offset)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return Σ v xᵀ at the non-zeros."""
        if not needed[0]:
            return (None,)
        if self._recorded(v, x):
            return (self.pattern.values(v.t() @ x),)
        nothing = self.pattern.compressed(torch.zeros_like(self._values))
        return (torch.sparse.sampled_addmm(nothing, v.t(), x, beta=0.0).values(),)

    def frobenius_norm(self) -> float:
        """Return ‖A‖_F."""
        return float(torch.linalg.vector_norm(self._values.detach(), dtype=torch.float64))

    def to_dense(self) -> Tensor:
        """Return A (rows, columns), in the graph of the values."""
        places = (self.pattern.rows, self.pattern.columns)
        return self._values.new_zeros(self.shape).index_put(places, self._values)

    def _recorded(self, *tensors: Tensor) -> bool:
        if transforming():
            return True
        return torch.is_grad_enabled() and any(
            each.requires_grad for each in (self._values, *tensors)
        )


def _product(matrix: Tensor, x: Tensor, offset: Tensor) -> Tensor:
    if len(x) == 1:
        return torch.addmv(offset[0], matrix, x[0])[None]
    part = max(_FEW_SAMPLES, _CACHED_VALUES // x.shape[1])
    if len(x) <= part:
        return torch.addmm(offset.t(), matrix, x.t()).t()
    pairs = zip(torch.split(offset, part), torch.split(x, part), strict=True)
    return torch.cat([torch.addmm(b.t(), matrix, u.t()) for b, u in pairs], dim=1).t()
