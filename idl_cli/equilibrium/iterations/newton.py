"""Newton's step for x = f(x), f' = D A: exact once the pattern of active states is the solution's.

(I − D A) δ = f(x) − x,    x⁺ = x + δ

For a piecewise linear φ D is constant between its kinks, so that a few steps end at rounding; the
adjoint is linear, and takes one. Where the slow modes of A are a continuum no coarse step helps,
and this costs less than hundreds of products: by factorisation while the systems, one a sample, are
small, else by a Krylov method, as far as another pattern allows it to be of use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.krylov import bicgstab
from idl_cli.equilibrium.iterations.linearised import Linearised

# Samples times states³ up to which a factorisation of each sample is cheaper than the products that
# it saves.
_LARGEST = 4e7

# How far a Krylov method brings the systems where the next iterate may have another D; where D
# stays, as far as rounding lets it; and its most iterations.
_REDUCTION, _REDUCTION_OF_LINEAR, _MOST = 0.1, 1e-3, 100


class NewtonSteps:
    """Those of one solve.

    Args:
        function: f.
        x: iterates (m, n), by whose number the way is chosen.
    """

    def __init__(self, function: Linearised, x: Tensor) -> None:
        samples, states = x.shape
        self._matrix = function.matrix() if samples * states**3 <= _LARGEST else None

    def step(self, function: Linearised, x: Tensor, image: Tensor) -> Tensor:
        """Return x⁺ (m, n), f(x) for a sample whose system has no finite solution.

        Args:
            function: f of the samples at hand.
            x: iterates (m, n).
            image: f(x) (m, n).
        """
        slopes, residual = function.slopes(x, image), image - x
        if self._matrix is None:
            reduction = _REDUCTION_OF_LINEAR if function.linear else _REDUCTION
            delta = bicgstab(
                lambda v: function.tangent(v, slopes), residual, reduction=reduction, most=_MOST
            )
        else:
            systems = slopes[:, :, None] * -self._matrix
            systems.diagonal(dim1=1, dim2=2).add_(1)
            delta = torch.linalg.solve_ex(systems, residual[:, :, None]).result.squeeze(2)
        following = x + delta
        return torch.where(following.isfinite().all(dim=1, keepdim=True), following, image)
