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
) -> tuple[Tensor, Tensor, int]:
    """Bring ‖r − (I − D A) δ‖₂ to ``reduction`` · ‖r‖₂, or as near to it as may be.

    Args:
        product: v ↦ D A v, for (m, n).
        r: right-hand sides (m, n), of any size.
        reduction: of each residual.
        most: iterations, of two products each.

    Returns:
        δ (m, n); what is left of each residual, as a share of it (m,), 0 of a zero one; and the
        number of products.
    """
    size = r.abs().amax(dim=1, keepdim=True)
    # Squares of small numbers would be zeros.
    r = torch.where(size > 0, r / size, r)
    begin = _norm(r)
    goal = reduction * begin
    delta, shadow, direction = torch.zeros_like(r), r, r
    nearest, least, products = delta, begin, 0
    rho, running = _dot(shadow, r), begin > goal
    for _ in range(most):
        if not bool(running.any()):
            break
        image = direction - product(direction)
        alpha = rho / _dot(shadow, image)
        s = r - alpha * image
        t = s - product(s)
        products += 2
        omega = _dot(t, s) / _dot(t, t)
        change = alpha * direction + omega * s
        running = running & change.isfinite().all(dim=1, keepdim=True)
        delta = torch.where(running, delta + change, delta)
        r = torch.where(running, s - omega * t, r)
        norm = _norm(r)
        nearest = torch.where(norm < least, delta, nearest)
        least = torch.minimum(norm, least)
        running = running & (norm > goal)
        before, rho = rho, _dot(shadow, r)
        direction = r + (rho / before) * (alpha / omega) * (direction - omega * image)
    left = torch.where(begin > 0, least / begin, torch.zeros_like(begin))
    return nearest * size, left.squeeze(1), products


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _norm(a: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(a, dim=1, keepdim=True)
    return norm
