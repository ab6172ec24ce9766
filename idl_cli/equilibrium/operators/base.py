"""What an equilibrium asks of its linear part.

An operator holds A by its factors, knows the two products an equilibrium needs and how a gradient
with respect to A reaches the factors. Nobody else looks inside. Tensors are sample-major: inputs
are (m, columns of A), outputs (m, rows of A), channels and pixels in one row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property, partial
from typing import ClassVar

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation

PROBES = 4  # vectors; with one in ten estimates is off by a third, with eight none is better


class Operator(ABC):
    """A linear map x ↦ Ax, A the product of its factors in some sense: linear in each of them.

    Attributes:
        factors: the tensors that define A, in the order ``form`` takes them.
        nilpotent: whether the equilibrium is exact in one sweep: a ``NilpotentOperator``.
    """

    nilpotent: ClassVar[bool] = False
    factors: tuple[Tensor, ...]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""

    @property
    def size(self) -> int:
        """Number of states n, of a square A."""
        return self.shape[0]

    @property
    def multiplications(self) -> int:
        """How many a product with one sample takes: by each entry of a factor once, if no more."""
        return sum(factor.numel() for factor in self.factors)

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes an operator of this structure of other factors; holds none itself."""
        return type(self)

    @abstractmethod
    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset for every sample (m, rows); ``out`` may be used to hold it."""

    @abstractmethod
    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset for every sample (m, columns); ``out`` may be used to hold it."""

    @cached_property
    def magnitudes(self) -> Operator:
        """|A| for a bound on what the products sum: of the factors where there are two."""
        return self.form(*(factor.detach().abs() for factor in self.factors))

    @abstractmethod
    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Pull ∂A = Σ_samples v xᵀ back to the factors, None for those not needed."""

    def changes(self, tangents: Sequence[Tensor | None]) -> Iterator[Operator]:
        """Give operators whose sum is dA for tangents of the factors, None for a constant one."""
        factors = self.factors
        for index, tangent in enumerate(tangents):
            if tangent is not None:
                yield self.form(*factors[:index], tangent, *factors[index + 1 :])

    @torch.no_grad()
    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows of A, summed in float64 (rows,); ‖A‖∞ is the largest."""
        return _row_sums(self.magnitudes)

    @torch.no_grad()
    def frobenius_norm(self) -> float:
        """Return ‖A‖_F, summed in float64."""
        squares = self.form(*(factor.detach().double().square() for factor in self.factors))
        return math.sqrt(float(_row_sums(squares).sum()))

    @torch.no_grad()
    def growth(self) -> float:
        """Return an estimate of ρ(A), of a square A: how its powers grow, to a tenth or so.

        √(‖A⁴Z‖/‖A²Z‖) of the same few vectors Z for every A.
        """
        like = self.factors[0]
        count = PROBES * self.size
        # As good as random, where a transform of torch.func lets nothing be drawn.
        probes = torch.arange(count, dtype=like.dtype, device=like.device).square_().sin_()
        probes = probes.view(PROBES, self.size)
        zeros = torch.zeros_like(probes)
        second = self.apply(self.apply(probes, zeros), zeros)
        fourth = self.apply(self.apply(second, zeros), zeros)
        return growth_over_two(second, fourth)

    def to_dense(self) -> Tensor:
        """Return A (rows, columns), in the graph of the factors."""
        rows, columns = self.shape
        like = self.factors[0]
        identity = torch.eye(columns, dtype=like.dtype, device=like.device)
        return self.apply(identity, like.new_zeros(columns, rows)).t()

    def to(self, dtype: torch.dtype) -> Operator:
        """Return A in this dtype."""
        if self.factors[0].dtype == dtype:
            return self
        return self.form(*(factor.to(dtype) for factor in self.factors))


class NilpotentOperator(Operator):
    """A strictly upper triangular A (n, n): well-posed whatever its size, solved in one sweep."""

    nilpotent = True

    @abstractmethod
    def swept_state(self, offset: Tensor, activation: Activation) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + b), without a graph; b (m, n) is ``offset``."""

    @abstractmethod
    def swept_adjoint(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return the v (m, n) with v = d ⊙ (g + Aᵀv), without a graph, of d and g (m, n)."""

    @abstractmethod
    def antitransposed(self) -> NilpotentOperator:
        """Return J Aᵀ J, J reversing the order of the states: upper triangular, unlike Aᵀ."""


def structure_of(form: object) -> Hashable:
    """Return what is equal for forms that make the same of the same factors."""
    if isinstance(form, partial):
        named = sorted(form.keywords.items())
        return (form.func, *map(structure_of, form.args), *((k, structure_of(v)) for k, v in named))
    if isinstance(form, tuple):
        return tuple(map(structure_of, form))
    assert isinstance(form, Hashable), "a layout, or what is told by its identity"
    return form


def written(tensor: Tensor) -> tuple[int, int]:
    """Return what changes where a tensor is another or is written to, as far as torch counts it."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def without_graph(tensor: Tensor) -> Tensor:
    """Return what to compute with where no graph is wanted: detached, where that is needed."""
    return tensor.detach() if torch.is_grad_enabled() else tensor


def growth_over_two(before: Tensor, after: Tensor) -> float:
    """Return how much one of two products makes of vectors: √(‖after‖/‖before‖), 0 of none."""
    ratio = float(torch.linalg.vector_norm(after) / torch.linalg.vector_norm(before))
    return math.sqrt(ratio) if ratio > 0 else 0.0


def _row_sums(operator: Operator) -> Tensor:
    rows, columns = operator.shape
    ones = operator.factors[0].new_ones((1, columns), dtype=torch.float64)
    return operator.to(torch.float64).apply(ones, ones.new_zeros(1, rows))[0]
