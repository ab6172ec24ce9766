"""(I − D A) δ = r by BiCGSTAB, every sample its own system, by products with A alone.

van der Vorst, SIAM J. Sci. Stat. Comput. 13(2), 1992, doi:10.1137/0913035: two products and no
basis to keep, so that what stands beside the products is small for a few hundred states too.
A breakdown ends its sample's iteration with what it has; whoever asks looks at the residual anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def bicgstab(
    product: Callable[[Tensor], Tensor], r: Tensor, *, reduction: float, most: int
) -> Tensor:
    """Return δ (m, n) with ‖r − (I − D A) δ‖₂ ≤ reduction · ‖r‖₂, or what is nearest to it.

    Args:
        product: v ↦ D A v, for (m, n).
        r: right-hand sides (m, n).
        reduction: of each residual.
        most: iterations, of two products each.
    """
    goal = reduction * _norm(r)
    delta, shadow, direction = torch.zeros_like(r), r, r
    nearest, least = delta, _norm(r)
    rho = _dot(shadow, r)
    for _ in range(most):
        image = direction - product(direction)
        alpha = rho / _dot(shadow, image)
        s = r - alpha * image
        t = s - product(s)
        omega = _dot(t, s) / _dot(t, t)
        change = alpha * direction + omega * s
        running = (_norm(r) > goal) & change.isfinite().all(dim=1, keepdim=True)
        if not bool(running.any()):
            break
        delta = torch.where(running, delta + change, delta)
        r = torch.where(running, s - omega * t, r)
        norm = _norm(r)
        nearest = torch.where(norm < least, delta, nearest)
        least = torch.minimum(norm, least)
        before, rho = rho, _dot(shadow, r)
        direction = r + (rho / before) * (alpha / omega) * (direction - omega * image)
    return nearest


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _norm(a: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(a, dim=1, keepdim=True)
    return norm
