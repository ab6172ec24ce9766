"""The feedback of a box: lower and upper ends of all states, through A.

For l ≤ x ≤ h, A x lies between A c − |A| r and A c + |A| r with c = (l + h)/2 and r = (h − l)/2.
With a monotone φ the box around all equilibria of a box of inputs is therefore an implicit model,

    (l, h) = φ(M (l, h) + b),    M = ½ [ A+R  A−R ; A−R  A+R ],    R = |A|,

of twice the states, whose rows have the l1 norms of A's: it contracts where A does (Jafarpour et
al. 2021, arXiv 2112.05310; Davydov et al. 2022, arXiv 2208.03889).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.equilibrium.operators import Operator


class BoxOperator(Operator):
    """M of a box, by A and R = |A|, in both of which it is linear; two products, as two of A.

    Vectors are (m, 2n): lower ends, then upper ends.

    Args:
        matrix: A (n, n).
        magnitude: R (n, n), ``matrix.abs()`` in the graph of A.
    """

    def __init__(self, matrix: Tensor, magnitude: Tensor) -> None:
        self.factors = (matrix, magnitude)
        self._matrix, self._magnitude = matrix, magnitude

    @property
    def size(self) -> int:
        """Number of ends, 2n."""
        return 2 * self._matrix.shape[0]

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return M x + offset."""
        return self._product(x, self._matrix.t(), self._magnitude.t(), offset, out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Mᵀ v + offset."""
        return self._product(v, self._matrix, self._magnitude, offset, out)

    @staticmethod
    def _product(
        ends: Tensor, matrix: Tensor, magnitude: Tensor, offset: Tensor, out: Tensor | None
    ) -> Tensor:
        centre, radius = centre_and_radius(ends)
        middle, reach = centre @ matrix, radius @ magnitude
        return torch.add(offset, torch.cat((middle - reach, middle + reach), dim=1), out=out)

    @cached_property
    def magnitudes(self) -> BoxOperator:
        """½ [S S; S S] with S = |A| + |R|: what the two products sum, rather than |M|.

        Where an entry of M is zero they cancel but for their rounding.
        """
        summed = self._matrix.abs() + self._magnitude.abs()
        return BoxOperator(summed, torch.zeros_like(summed))

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return ∂A = Σ (v_l + v_h) cᵀ and ∂R = Σ (v_h − v_l) rᵀ."""
        centre, radius = centre_and_radius(x)
        v_centre, v_radius = centre_and_radius(v)
        matrix = 2 * v_centre.t() @ centre if needed[0] else None
        magnitude = 2 * v_radius.t() @ radius if needed[1] else None
        return matrix, magnitude

    @staticmethod
    def antitransposed(factors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return A and R reflected at their other diagonal."""
        return tuple(factor.t().flip(0, 1) for factor in factors)


def centre_and_radius(ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return (l + h)/2 and (h − l)/2 (m, n) of the ends (m, 2n) of boxes."""
    low, high = ends.chunk(2, dim=1)
    return (low + high) / 2, (high - low) / 2
