"""The linear part of the equilibrium map, in the forms A may take.

An operator holds A by its factors, knows the two products an equilibrium needs and how a gradient
with respect to A reaches the factors. Tensors are sample-major: x and v are (m, n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor


class Operator(ABC):
    """A linear map x ↦ Ax on states, given by its factors.

    Attributes:
        factors: the tensors that define A, in the order the constructor takes them.
        nilpotent: whether A is strictly triangular, so that the equilibrium is exact in one sweep.
    """

    nilpotent: ClassVar[bool] = False
    factors: tuple[Tensor, ...]

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of states n."""

    @abstractmethod
    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset for every sample (m, n), written into ``out`` where it is given."""

    @abstractmethod
    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset for every sample (m, n), written into ``out`` where it is given."""

    @cached_property
    def magnitudes(self) -> Operator:
        """|A| for a bound on what the products sum: of the factors where there are two."""
        return type(self)(*(factor.abs() for factor in self.factors))

    @abstractmethod
    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Pull ∂A = Σ_samples v xᵀ back to the factors, None for those not needed."""

    @staticmethod
    @abstractmethod
    def antitransposed(factors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the factors of J Aᵀ J, J reversing the order of the states.

        Unlike Aᵀ it is upper triangular where A is, so it is an operator of the same type.
        """


class DenseOperator(Operator):
    """A full matrix A (n, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.factors = (matrix,)
        self._matrix = matrix
        self._transpose = matrix.t()

    @property
    def size(self) -> int:
        """Number of states n."""
        return self._matrix.shape[0]

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        return torch.addmm(offset, x, self._transpose, out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        return torch.addmm(offset, v, self._matrix, out=out)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂A = Σ v xᵀ."""
        return (v.t() @ x if needed[0] else None,)

    @staticmethod
    def antitransposed(factors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return A reflected at its other diagonal."""
        return (factors[0].t().flip(0, 1),)


class StrictlyUpperTriangularOperator(DenseOperator):
    """A strictly upper triangular matrix A (n, n): nilpotent, hence well-posed whatever its size.

    The entries on and below the diagonal must be zero; the caller sees to it (``Tensor.triu(1)``),
    so that the gradient of the mask is part of the graph.
    """

    nilpotent = True


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
    def size(self) -> int:
        """Number of states n."""
        return self._left.shape[0]

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

    @staticmethod
    def antitransposed(factors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return R and L with their rows in reverse order: J (L Rᵀ)ᵀ J = (J R)(J L)ᵀ."""
        left, right = factors
        return right.flip(0), left.flip(0)
