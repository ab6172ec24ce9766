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

# More values are looked at in parts, of so many a thread, that stay in the cache, at least a sample
# at a time.
_WHOLE_VALUES = 2**19
_PART_VALUES = 2**16

# Multiplications a state up to which a product with a part of the samples is as quick as its share.
_CHEAP_SHARE = 200

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
    def known(self, samples: Tensor | None = None) -> Tensor:
        """Return |b| (k, n), the part that does not depend on the state.

        Args:
            samples: indices of those asked for (k,); None for all.
        """

    @abstractmethod
    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |A|x + |b|, or its like for the adjoint.

        Args:
            x: any (k, n).
            known: |b| of the same samples (k, n).
        """

    @property
    def cheap(self) -> bool:
        """Whether products with some samples at a time cost no more than one with all of them."""
        return False


class SummedByOperator(Summed):
    """Of a map with a linear part; a subclass sets ``operator``, A."""

    operator: Operator

    @property
    def cheap(self) -> bool:
        """Whether A has few parameters: more of them are read once a product."""
        return self.operator.multiplications <= _CHEAP_SHARE * self.operator.size


class SummedStates(SummedByOperator):
    """Of x ↦ φ(Ax + b); a subclass sets ``operator``, A, and ``inflow``, b (m, n)."""

    inflow: Tensor

    def known(self, samples: Tensor | None = None) -> Tensor:
        """Return |b|."""
        return (self.inflow if samples is None else select(self.inflow, samples)).abs()

    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |A|x + |b|."""
        return self.operator.magnitudes.apply(x, known, _like(x))


class SummedAdjoints(SummedByOperator):
    """Of v ↦ d ⊙ (g + Aᵀv); a subclass sets ``operator``, A, and ``gradient``, g (m, n)."""

    gradient: Tensor

    def known(self, samples: Tensor | None = None) -> Tensor:
        """Return |g|; where d is zero, so is what is compared with it."""
        return (self.gradient if samples is None else select(self.gradient, samples)).abs()

    def fed(self, x: Tensor, known: Tensor) -> Tensor:
        """Return |Aᵀ|x + |g|."""
        return self.operator.magnitudes.apply_transpose(x, known, _like(x))


def reachable(tol: float, dtype: torch.dtype) -> float:
    """Return ``tol``, or what rounding leaves of it in this dtype."""
    return max(tol, _ROUNDING_UNITS * torch.finfo(dtype).eps)


def adjoint_scale(gradient: Tensor) -> Tensor:
    """Return what an adjoint's residual is relative to (m,): ‖g‖∞ of each g (m, n), never 0."""
    return gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)


def _part(x: Tensor) -> int:
    """Return how many samples of x (m, n) to look at at a time."""
    if x.numel() <= _WHOLE_VALUES or x.is_cuda or not x.is_contiguous():
        return len(x)
    return max(1, _PART_VALUES * torch.get_num_threads() // x.shape[1])


@dataclass(frozen=True)
class Change:
    """What one evaluation f(x) tells of x.

    Attributes:
        x: the iterates (m, n).
        image: f(x) (m, n).
        residual: ‖f(x) − x‖∞ relative to the sample's size, or to a scale (m,); NaN where the
            sample is not finite.
        change: |f(x) − x| (m, n); None of values so many that it is made in parts.
        size: |f(x)| (m, n), where it is known.
    """

    x: Tensor
    image: Tensor
    residual: Tensor
    change: Tensor | None
    size: Tensor | None

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
        part = _part(x)
        change = size = None
        if part == len(x):
            change = (image - x).abs_()
            residual = change.amax(dim=1)
        else:
            pairs = list(zip(torch.split(x, part), torch.split(image, part), strict=True))
            residual = torch.cat([(b - a).abs_().amax(dim=1) for a, b in pairs])
        if scale is None or floor:
            if change is None:
                largest = torch.cat([each.abs().amax(dim=1) for each in torch.split(image, part)])
            else:
                size = image.abs()
                largest = size.amax(dim=1)
            if scale is None:
                tiny = torch.finfo(residual.dtype).tiny
                scale = torch.maximum(largest, residual).clamp_(min=tiny)
            else:
                scale = torch.maximum(scale, largest.mul_(floor))
        return cls(x, image, residual.div_(scale), change, size)

    def slack(self, tol: float, summed: Summed, without: Tensor | None) -> Tensor:
        """Look state by state at |A|(|f(x)| − |r|/tol) + |b|, which is ≥ 0 in all of a good sample.

        Args:
            tol: the tolerance.
            summed: what the states are sums of.
            without: samples that need not be looked at (m,), among them all that do not pass by
                norm; None where there are none.

        Returns:
            All of each sample (m, n), the smallest (m,), or any number ≥ 0 where none is negative;
            of samples that need not be looked at, any number or NaN.
        """
        if self.x.is_contiguous() and (
            self.x.numel() >= _SELECTION_SIZE or self.x.shape[1] >= _SELECTION_STATES
        ):
            return self._slack_of_doubtful(tol, summed, None if without is None else ~without)
        change, size = self._parts(None)
        return summed.fed(torch.sub(size, change, alpha=1 / tol), summed.known())

    def _slack_of_doubtful(self, tol: float, summed: Summed, passing: Tensor | None) -> Tensor:
        """Look without a product where |r| ≤ tol · max(|f(x)|, |b|): x itself obeys the rule."""
        least = torch.zeros_like(self.residual)
        doubtful: list[tuple[Tensor, Tensor, Tensor]] = []
        part = _part(self.x)
        parts: tuple[Tensor | None, ...] = (None,)
        if part < len(self.x):
            looked_at = torch.ones_like(least) if passing is None else passing
            parts = tuple(torch.split(looked_at.nonzero().squeeze(1), part))
        for samples in parts:
            change, size = self._parts(samples)
            known = summed.known(samples)
            # What is kept for all samples is needed again.
            spare = (None, None) if samples is None else (size, change)
            slack = torch.sub(size, change, alpha=1 / tol, out=spare[0])
            own = torch.sub(known, change, alpha=1 / tol, out=spare[1])
            found = torch.maximum(own, slack, out=own).amin(dim=1) < 0
            if samples is None and passing is not None:
                found.logical_and_(passing)
            rows = found.nonzero().squeeze(1)
            if len(rows):
                indices = rows if samples is None else samples.index_select(0, rows)
                del change, own  # before the product
                slack, known = slack.index_select(0, rows), known.index_select(0, rows)
                doubtful.append((indices, slack, known))
                if summed.cheap:
                    _look_at(least, summed, doubtful)
        _look_at(least, summed, doubtful)
        return least

    def raise_lagging(self, tol: float, summed: Summed, slack: Tensor) -> None:
        """Look at x itself where f(x) lags, as it does where rounding stands in its way.

        Raises ``residual`` of those that do not pass to the largest ratio of a state's change to
        what is summed in it.

        Args:
            tol: the tolerance.
            summed: what the states are sums of.
            slack: the smallest of each sample (m,).
        """
        samples = (slack < 0).logical_and_(self.residual <= tol).nonzero().squeeze(1)
        change, size = self._parts(samples)
        sums = summed.fed(select(self.x, samples).abs(), summed.known(samples))
        torch.maximum(sums, size, out=sums)
        sums.clamp_(min=torch.finfo(sums.dtype).tiny)
        ratios = change.div_(sums).amax(dim=1)
        kept = torch.maximum(self.residual.index_select(0, samples), ratios)
        self.residual.index_copy_(0, samples, kept)

    def _parts(self, samples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return |f(x) − x| and |f(x)| (k, n) of these samples (k,), None for all."""
        if samples is None:
            assert self.change is not None, "asked for where it is kept"
            return self.change, self.image.abs() if self.size is None else self.size
        image = select(self.image, samples)
        if self.change is not None:
            return select(self.change, samples), image.abs_()
        return (image - select(self.x, samples)).abs_(), image.abs_()


def _look_at(least: Tensor, summed: Summed, doubtful: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Write to ``least`` what the sums say of samples (k,), their slack and |b| (k, n)."""
    if doubtful:
        indices, slack, known = (
            each[0] if len(each) == 1 else torch.cat(each) for each in zip(*doubtful, strict=True)
        )
        doubtful.clear()
        least.index_copy_(0, indices, summed.fed(slack, known).amin(dim=1))
