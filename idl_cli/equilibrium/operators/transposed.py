"""The transpose of another operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

from torch import Tensor

from idl_cli.equilibrium.operators.base import Operator


class TransposedOperator(Operator):
    """Aᵀ of an A that is not copied; of a strided convolution, one that fills a larger image.

    Args:
        operator: A.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.factors = operator.factors

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of Aᵀ."""
        rows, columns = self._operator.shape
        return columns, rows

    @property
    def multiplications(self) -> int:
        """How many a product with one sample takes: as many as that of A."""
        return self._operator.multiplications

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes the transpose of other factors."""
        return partial(_transposed, self._operator.form)

    @cached_property
    def magnitudes(self) -> Operator:
        """|Aᵀ|."""
        return TransposedOperator(self._operator.magnitudes)

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ x + offset."""
        return self._operator.apply_transpose(x, offset, out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A v + offset."""
        return self._operator.apply(v, offset, out)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return what Σ x vᵀ gives the factors of A."""
        return self._operator.factor_gradients(x, v, needed)

    def changes(self, tangents: Sequence[Tensor | None]) -> Iterator[Operator]:
        """Give the transposes of A's changes."""
        return map(TransposedOperator, self._operator.changes(tangents))

    def frobenius_norm(self) -> float:
        """Return ‖A‖_F."""
        return self._operator.frobenius_norm()

    def to_dense(self) -> Tensor:
        """Return Aᵀ."""
        return self._operator.to_dense().t()


def _transposed(form: Callable[..., Operator], *factors: Tensor) -> TransposedOperator:
    return TransposedOperator(form(*factors))
