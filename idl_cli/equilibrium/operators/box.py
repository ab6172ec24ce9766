"""The feedback of a box: lower and upper ends of all states, through A.

For l ≤ x ≤ h, A x lies between A c − |A| r and A c + |A| r with c = (l + h)/2 and r = (h − l)/2.
With a monotone φ the box around all equilibria of a box of inputs is therefore an implicit model,

    (l, h) = φ(M (l, h) + b),    M = ½ [ A+R  A−R ; A−R  A+R ],    R = |A|,

of twice the states, whose rows have the l1 norms of A's: it contracts where A does (Jafarpour et
al. 2021, arXiv 2112.05310; Davydov et al. 2022, arXiv 2208.03889).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from idl_cli.equilibrium.operators.base import Operator


class BoxOperator(Operator):
    """M of a box, by A and R = |A|, in both of which it is linear; two products, as two of A.

    Vectors are (m, 2n): lower ends, then upper ends.

    Args:
        operator: A, each entry of which is one of its factors' or zero: a full matrix, a
            convolution, a grid of these.
        magnitude: R, of the same form.
    """

    def __init__(self, operator: Operator, magnitude: Operator) -> None:
        self.factors = (*operator.factors, *magnitude.factors)
        self._operator, self._magnitude = operator, magnitude

    @classmethod
    def around(cls, operator: Operator) -> BoxOperator:
        """Of A, with R in the graph of its factors."""
        return cls(operator, operator.form(*(factor.abs() for factor in operator.factors)))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of M: 2n ends each."""
        return 2 * self._operator.shape[0], 2 * self._operator.shape[1]

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes M of other factors of A and R."""
        return partial(_of_factors, self._operator.form)

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return M x + offset."""
        return _product(x, self._operator.apply, self._magnitude.apply, offset, out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Mᵀ v + offset."""
        products = (self._operator.apply_transpose, self._magnitude.apply_transpose)
        return _product(v, *products, offset, out)

    @cached_property
    def magnitudes(self) -> BoxOperator:
        """½ [S S; S S] with S = |A| + |R|: what the two products sum, rather than |M|.

        Where an entry of M is zero they cancel but for their rounding.
        """
        form = self._operator.form
        summed = [first.abs() + second.abs() for first, second in self._pairs()]
        return BoxOperator(form(*summed), form(*map(torch.zeros_like, summed)))

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂A = Σ (v_l + v_h) cᵀ and ∂R = Σ (v_h − v_l) rᵀ, pulled back to the factors."""
        centre, radius = centre_and_radius(x)
        v_centre, v_radius = centre_and_radius(v)
        count = len(self._operator.factors)
        return (
            *self._operator.factor_gradients(2 * v_centre, centre, needed[:count]),
            *self._magnitude.factor_gradients(2 * v_radius, radius, needed[count:]),
        )

    def changes(self, tangents: Sequence[Tensor | None]) -> Iterator[Operator]:
        """Give changes of M: those of A, then those of R, since M is their sum."""
        form, count = self._operator.form, len(self._operator.factors)
        nothing = form(*map(torch.zeros_like, self._operator.factors))
        for change in self._operator.changes(tangents[:count]):
            yield BoxOperator(change, nothing)
        for change in self._magnitude.changes(tangents[count:]):
            yield BoxOperator(nothing, change)

    @torch.no_grad()
    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows of M, those of A's twice where R = |A|."""
        form = self._operator.form
        pairs = [(first.detach().double(), second.double()) for first, second in self._pairs()]
        total = form(*(first + second for first, second in pairs)).row_norms()
        total = total + form(*(first - second for first, second in pairs)).row_norms()
        return (total / 2).repeat(2)

    @torch.no_grad()
    def frobenius_norm(self) -> float:
        """Return ‖M‖_F = √(‖A‖_F² + ‖R‖_F²)."""
        return math.hypot(self._operator.frobenius_norm(), self._magnitude.frobenius_norm())

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The factors of A beside those of R."""
        return zip(self._operator.factors, self._magnitude.factors, strict=True)


def centre_and_radius(ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return (l + h)/2 and (h − l)/2 (m, n) of the ends (m, 2n) of boxes."""
    low, high = ends.chunk(2, dim=1)
    return (low + high) / 2, (high - low) / 2


def _of_factors(form: Callable[..., Operator], *factors: Tensor) -> BoxOperator:
    count = len(factors) // 2
    return BoxOperator(form(*factors[:count]), form(*factors[count:]))


def _product(
    ends: Tensor,
    by_operator: Callable[[Tensor, Tensor], Tensor],
    by_magnitude: Callable[[Tensor, Tensor], Tensor],
    offset: Tensor,
    out: Tensor | None,
) -> Tensor:
    centre, radius = centre_and_radius(ends)
    zero = ends.new_zeros(1, 1).expand(len(ends), offset.shape[1] // 2)
    middle, reach = by_operator(centre, zero), by_magnitude(radius, zero)
    return torch.add(offset, torch.cat((middle - reach, middle + reach), dim=1), out=out)
