"""When is an iterate x of x = f(x) good enough? One rule for all solves, forward and backward.

Per sample, with the change f(x) − x:

- by norm: ‖f(x) − x‖∞ ≤ tol · max(‖f(x)‖∞, ‖f(x) − x‖∞), the sample's own size;
- state by state: |f(x) − x|_i ≤ tol · max(|f(x)|_i, s_i), with s = |A||x| + |b| what is summed to
  make the state, or s = d ⊙ (|Aᵀ||v| + |g|) for the adjoint.

The second is the componentwise backward error of Oettli and Prager (Numer. Math. 6, 1964,
doi:10.1007/BF01386090): x solves a problem whose A and b differ by at most tol, entry by entry.
Since |x − x*| ≤ (I − |A|)⁻¹ |f(x) − x| for a non-expansive φ, it bounds small states by what feeds
them, however large others are. A diagonal similarity (SAS⁻¹, Sb) leaves it unchanged, and where φ
is positively homogeneous both are unchanged by a scale of b: nothing in them is absolute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from idl_cli.equilibrium.operators import Operator

# Below a few units in the last place of what is summed, changes are rounding. In float32 these are
# 9.5e-7.
_ROUNDING_UNITS = 8


def select(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of x (m, n) at these indices (k,), state-major where x is."""
    return x.index_select(0, samples) if x.is_contiguous() else x.t().index_select(1, samples).t()


class Summed(ABC):
    """What the states of a map f are sums of.

    Attributes:
        inflow: the part that does not depend on the state (m, n): b, or d ⊙ g.
    """

    inflow: Tensor

    @abstractmethod
    def magnitudes(self, x: Tensor, samples: Tensor) -> Tensor:
        """Return s (k, n) at the iterates x (k, n) of the samples at these indices (k,)."""


class SummedStates(Summed):
    """Of x ↦ φ(Ax + b); a subclass sets ``operator``, A, and ``inflow``, b (m, n)."""

    operator: Operator

    def magnitudes(self, x: Tensor, samples: Tensor) -> Tensor:
        """Return |A||x| + |b|."""
        offset = select(self.inflow, samples).abs_()
        return self.operator.magnitudes().apply(x.abs(), offset, torch.empty_like(x))


class SummedAdjoints(Summed):
    """Of v ↦ d ⊙ (g + Aᵀv).

    A subclass sets ``operator``, A, ``slopes``, d, ``gradient``, g, and ``inflow``, d ⊙ g (m, n).
    """

    operator: Operator
    slopes: Tensor
    gradient: Tensor

    def magnitudes(self, x: Tensor, samples: Tensor) -> Tensor:
        """Return |d| ⊙ (|Aᵀ||v| + |g|)."""
        gradient, out = select(self.gradient, samples).abs_(), torch.empty_like(x)
        summed = self.operator.magnitudes().apply_transpose(x.abs(), gradient, out)
        return summed.mul_(select(self.slopes, samples).abs_())


def reachable(tol: float, dtype: torch.dtype) -> float:
    """Return ``tol``, or what rounding leaves of it in this dtype."""
    return max(tol, _ROUNDING_UNITS * torch.finfo(dtype).eps)


def adjoint_scale(gradient: Tensor) -> Tensor:
    """Return what an adjoint's residual is relative to (m,): ‖g‖∞ of each g (m, n), never 0."""
    return gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)


def relative_residual(
    x: Tensor,
    image: Tensor,
    tol: float,
    *,
    scale: Tensor | None = None,
    summed: Summed | None = None,
) -> tuple[Tensor, bool]:
    """Return the residual of each sample: at most ``tol`` exactly where both rules hold.

    The residual by norm is returned, and where a state is further off than ``tol`` though the norm
    is not, the largest ratio of a state's change to what is summed in it.

    Args:
        x: iterates (m, n).
        image: f(x) (m, n).
        tol: largest residual of a converged sample, as ``reachable`` returns it.
        scale: what the norm is divided by (m,), > 0; the sample's own size where it is None.
        summed: of f; None judges by the norm alone.

    Returns:
        Residuals (m,), NaN where a sample is not finite; and whether the norm shows nothing of what
        some of them lack.
    """
    change = (image - x).abs_()
    size = image.abs()
    residual = change.amax(dim=1)
    if scale is None:
        tiny = torch.finfo(residual.dtype).tiny
        scale = torch.maximum(size.amax(dim=1), residual).clamp_(min=tiny)
    residual.div_(scale)
    if summed is None:
        return residual, False
    near = residual <= tol
    if not bool(near.any()):
        return residual, False
    # |f(x)|_i and b_i are no larger than what is summed, and enough for nearly all samples: the
    # product with |A| is formed for the others alone.
    torch.maximum(size, summed.inflow, out=size)
    doubtful = (
        torch.add(change, size, alpha=-tol, out=size).amax(dim=1).gt_(0).bool().logical_and_(near)
    )
    samples = doubtful.nonzero().squeeze(1)
    if not len(samples):
        return residual, False
    changes = select(change, samples)
    sums = summed.magnitudes(select(x, samples), samples)
    torch.maximum(sums, select(image, samples).abs_(), out=sums)
    ratios = changes.div_(sums.clamp_(min=torch.finfo(sums.dtype).tiny)).amax(dim=1)
    residual.index_copy_(0, samples, torch.maximum(residual.index_select(0, samples), ratios))
    return residual, bool((ratios > tol).any())
