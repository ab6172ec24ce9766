"""When is f(x) good enough for the x* = f(x*)? One rule for all solves, forward and backward.

Per sample, with the change r = f(x) − x:

- by norm: ‖r‖∞ ≤ tol · max(‖f(x)‖∞, ‖r‖∞), the sample's own size;
- state by state: |A||r| ≤ tol · s(f(x)), with s(x) = |A||x| + |b| what is summed to make the state,
  or s(v) = |Aᵀ||v| + |g| for the adjoint, with |Aᵀ||r|.

As |A||r| bounds the residual of f(x), the second is the componentwise backward error of Oettli and
Prager (Numer. Math. 6, 1964, doi:10.1007/BF01386090): f(x) solves a problem whose A and b differ by
at most tol, entry by entry. For a non-expansive φ, |f(x) − x*| ≤ (I − |A|)⁻¹ |A||r|: small states
are bounded by what feeds them, however large others are. Where rounding stands in its way, x itself
may obey it: |r| ≤ tol · max(|f(x)|, s(x)). A diagonal similarity (SAS⁻¹, Sb) leaves all of it
unchanged, and where φ is positively homogeneous so does a scale of b: nothing in it is absolute.

In a loop the norm is cheap, and the states are looked at once it is passed. Of few values f(x) is
looked at; of many, x first, by the parts |f(x)| and |b| of its sum, which need no product, and f(x)
of the samples that are left. A sample that lags goes on; where it lags again, all of x's sum is
formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.equilibrium.operators import Operator

# With fewer values, selecting samples takes longer than the product that it saves; with so many
# states the product, and |A| for it, take longer whatever the number of samples.
_SELECTION_SIZE = 8192
_SELECTION_STATES = 400

# Below a few units in the last place of what is summed, changes are rounding. In float32 these are
# 9.5e-7.
_ROUNDING_UNITS = 8


def select(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of x (m, n) at these indices (k,), state-major where x is."""
    return x.index_select(0, samples) if x.is_contiguous() else x.t().index_select(1, samples).t()


def _like(x: Tensor) -> Tensor | None:
    # What a product makes by itself is sample-major.
    return None if x.is_contiguous() else torch.empty_like(x)


class Summed(ABC):
    """What the states of a map f are sums of."""

    @abstractmethod
    def known(self) -> Tensor:
        """Return |b| (m, n), the part that does not depend on the state."""

    @abstractmethod
    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |A|x + |b|, or its like for the adjoint.

        Args:
            x: any (k, n).
            known: |b| of the same samples (k, n).
        """


class SummedStates(Summed):
    """Of x ↦ φ(Ax + b); a subclass sets ``operator``, A, and ``inflow``, b (m, n)."""

    operator: Operator
    inflow: Tensor

    def known(self) -> Tensor:
        """Return |b|."""
        return self.inflow.abs()

    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |A|x + |b|."""
        return self.operator.magnitudes.apply(x, known, _like(x))


class SummedAdjoints(Summed):
    """Of v ↦ d ⊙ (g + Aᵀv); a subclass sets ``operator``, A, and ``gradient``, g (m, n)."""

    operator: Operator
    gradient: Tensor

    def known(self) -> Tensor:
        """Return |g|; where d is zero, so is what is compared with it."""
        return self.gradient.abs()

    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |Aᵀ|x + |g|."""
        return self.operator.magnitudes.apply_transpose(x, known, _like(x))


def reachable(tol: float, dtype: torch.dtype) -> float:
    """Return ``tol``, or what rounding leaves of it in this dtype."""
    return max(tol, _ROUNDING_UNITS * torch.finfo(dtype).eps)


def adjoint_scale(gradient: Tensor) -> Tensor:
    """Return what an adjoint's residual is relative to (m,): ‖g‖∞ of each g (m, n), never 0."""
    return gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)


@dataclass(frozen=True)
class Change:
    """What one evaluation f(x) tells of x.

    Attributes:
        change: |f(x) − x| (m, n).
        size: |f(x)| (m, n).
        residual: ‖f(x) − x‖∞ relative to the sample's size, or to a scale (m,); NaN where the
            sample is not finite.
    """

    x: Tensor
    change: Tensor
    size: Tensor
    residual: Tensor

    @classmethod
    def of(cls, x: Tensor, image: Tensor, scale: Tensor | None, floor: float = 0.0) -> Change:
        """Look at it by norm.

        Args:
            x: iterates (m, n).
            image: f(x) (m, n).
            scale: what the norm is divided by (m,), > 0; the sample's own size where it is None.
            floor: share of the sample's own size that the scale is not below; such that the
                tolerance is that of rounding, where a small g has a large v.
        """
        change = (image - x).abs_()
        size = image.abs()
        residual = change.amax(dim=1)
        if scale is None:
            tiny = torch.finfo(residual.dtype).tiny
            scale = torch.maximum(size.amax(dim=1), residual).clamp_(min=tiny)
        elif floor:
            scale = torch.maximum(scale, size.amax(dim=1).mul_(floor))
        return cls(x, change, size, residual.div_(scale))

    def slack(self, tol: float, summed: Summed) -> Tensor:
        """Look state by state at |A|(|f(x)| − |r|/tol) + |b|, which is ≥ 0 in all of a good sample.

        Returns:
            The smallest of each sample (m,), or any number ≥ 0 where none is negative; of samples
            that do not pass by norm, any number or NaN.
        """
        known = summed.known()
        if self.x.is_contiguous() and (
            self.x.numel() >= _SELECTION_SIZE or self.x.shape[1] >= _SELECTION_STATES
        ):
            # Where |r| ≤ tol · max(|f(x)|, |b|) x itself obeys the rule, without a product.
            own = torch.maximum(self.size, known).sub_(self.change, alpha=1 / tol).amin(dim=1)
            doubtful = (own < 0).logical_and_(self.residual <= tol).nonzero().squeeze(1)
            if not len(doubtful):
                return torch.zeros_like(own)
            slack = torch.sub(
                self.size.index_select(0, doubtful),
                self.change.index_select(0, doubtful),
                alpha=1 / tol,
            )
            least = summed.fed(slack, known.index_select(0, doubtful)).amin(dim=1)
            return torch.zeros_like(own).index_copy_(0, doubtful, least)
        slack = torch.sub(self.size, self.change, alpha=1 / tol)
        return summed.fed(slack, known).amin(dim=1)

    def raise_lagging(self, tol: float, summed: Summed, slack: Tensor) -> None:
        """Look at x itself where f(x) lags, as it does where rounding stands in its way.

        Raises ``residual`` of those that do not pass to the largest ratio of a state's change to
        what is summed in it.

        Args:
            tol: the tolerance.
            summed: what the states are sums of.
            slack: of this change.
        """
        samples = (slack < 0).logical_and_(self.residual <= tol).nonzero().squeeze(1)
        sums = summed.fed(select(self.x, samples).abs(), select(summed.known(), samples))
        torch.maximum(sums, select(self.size, samples), out=sums)
        sums.clamp_(min=torch.finfo(sums.dtype).tiny)
        ratios = select(self.change, samples).div_(sums).amax(dim=1)
        kept = torch.maximum(self.residual.index_select(0, samples), ratios)
        self.residual.index_copy_(0, samples, kept)
