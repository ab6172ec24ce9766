"""Newton's step for x = f(x), f' = D A: exact once the pattern of active states is the solution's.

(I − D A) δ = f(x) − x,    x⁺ = x + δ

For a piecewise linear φ D is constant between its kinks, so that a few steps end at rounding; the
adjoint is linear, and takes one. Where the slow modes of A are a continuum no coarse step helps,
and this costs less than hundreds of products while the systems, one a sample, are small.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Samples times states³ up to which a few factorisations of each sample are cheaper than the
# iterations that they save: at 100 states and 64 samples, 6.4e7, they cost alike (one thread,
# float32). A linear map takes one instead of some six.
_LARGEST = 4e7
_STEPS_OF_OTHERS = 6


def newton_pays(x: Tensor, linear: bool) -> bool:
    """Whether the systems of these iterates (m, n) are small enough to be solved."""
    samples, states = x.shape
    return samples * states**3 <= _LARGEST * (_STEPS_OF_OTHERS if linear else 1)


def newton_step(matrix: Tensor, slopes: Tensor, x: Tensor, image: Tensor) -> Tensor:
    """Return x⁺ (m, n), f(x) for a sample whose system has no finite solution.

    Args:
        matrix: A (n, n), of the adjoint Aᵀ.
        slopes: d (m, n), where f maps x to ``image``.
        x: iterates (m, n).
        image: f(x) (m, n).
    """
    systems = slopes[:, :, None] * -matrix
    systems.diagonal(dim1=1, dim2=2).add_(1)
    following = x + torch.linalg.solve_ex(systems, (image - x)[:, :, None]).result.squeeze(2)
    return torch.where(following.isfinite().all(dim=1, keepdim=True), following, image)
