"""ALPS: one layer's reconstruction with a limit on its non-zeros, by ADMM (arXiv 2406.07831).

Meng, Behdin, Wang, Mazumder: minimise ½‖(W - W̄)X‖² subject to ‖W‖₀ ≤ k. W takes the quadratic
part, by one eigendecomposition whatever ρ is, a copy D the limit, by keeping the k largest; ρ grows
while the support still changes. Then conjugate gradients on the support (their algorithm 2).
Columns are scaled to a unit diagonal first.
"""

from __future__ import annotations

import torch
from torch import Tensor

DAMPING = 0.01
"""Added to the Hessian's diagonal, relative to its mean."""
RHO = 0.1
EVERY = 3
"""Steps between two looks at how the support changes."""
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""Factor of ρ where more than that share of the k entries changed."""
STEPS = 300
REFINEMENTS = 10


def alps(weight: Tensor, gram: Tensor, nonzeros: int) -> Tensor:
    """The layer with ``nonzeros`` weights left, chosen and valued together.

    Args:
        weight: (r, D), W̄.
        gram: (D, D), Σ x xᵀ of the layer's inputs.
        nonzeros: of the whole layer.
    """
    if nonzeros == 0:
        return torch.zeros_like(weight)
    damping = DAMPING * gram.diagonal().mean() if bool(gram.any()) else torch.ones_like(gram[0, 0])
    scale = (gram.diagonal() + damping).sqrt()
    hessian = gram / scale / scale[:, None]
    hessian.diagonal().fill_(1.0)
    dense = weight * scale
    target = dense @ hessian
    values, vectors = torch.linalg.eigh(hessian)
    rho, dual = RHO, torch.zeros_like(dense)
    support = _largest(dense, nonzeros)
    sparse = dense * support
    seen = support
    for step in range(1, STEPS + 1):
        shifted = (target - dual + rho * sparse) @ vectors
        primal = (shifted / (values + rho)) @ vectors.T
        sparse = primal + dual / rho
        support = _largest(sparse, nonzeros)
        sparse = sparse * support
        dual = dual + rho * (primal - sparse)
        if step % EVERY == 0:
            changed = int((support != seen).sum()) / 2 / nonzeros
            if changed == 0:
                break
            rho *= next(factor for share, factor in GROWTH if changed > share)
            seen = support
    return _refined(sparse, support, hessian, target) / scale


def _largest(values: Tensor, count: int) -> Tensor:
    kept = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    kept[values.abs().flatten().argsort(descending=True, stable=True)[:count]] = True
    return kept.view_as(values)


def _refined(weight: Tensor, support: Tensor, hessian: Tensor, target: Tensor) -> Tensor:
    """Conjugate gradients over all rows at once; the unit diagonal is the preconditioner."""
    residual = (target - weight @ hessian) * support
    direction = residual
    square = residual.square().sum()
    for _ in range(REFINEMENTS):
        if not square > 0:
            break
        image = (direction @ hessian) * support
        step = square / (direction * image).sum()
        weight = weight + step * direction
        residual = residual - step * image
        before, square = square, residual.square().sum()
        direction = residual + square / before * direction
    return weight
