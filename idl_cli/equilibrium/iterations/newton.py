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
# it saves, and up to which it is taken where a Krylov method gets nowhere, or has taken as many
# products as two or three factorisations are worth: half as many as there are states.
_LARGEST, _LARGEST_OF_ALL = 2e8, 2e9
# And up to which it takes no longer than ten coarse steps, or so.
_SMALL = 2e7

# How far a Krylov method brings the systems where the next iterate may have another D, and its most
# iterations there; where D stays, as far as rounding lets it.
_REDUCTION, _MOST = 0.1, 30
_REDUCTION_OF_LINEAR, _MOST_OF_LINEAR = 1e-3, 100
_NOWHERE = 0.5  # of a residual that is left


class NewtonSteps:
    """Those of one solve.

    Args:
        function: f.
        x: iterates (m, n), by whose number the way is chosen.

    Attributes:
        spent: products of the last step.
        failed: whether it got nowhere with one of its systems, and no factorisation is affordable.
    """

    def __init__(self, function: Linearised, x: Tensor) -> None:
        self.spent, self.failed = 0, False
        self._products = 0
        self._matrix = function.matrix() if factorises(x) else None

    def step(self, function: Linearised, x: Tensor, image: Tensor, moving: Tensor) -> Tensor:
        """Return x⁺ (m, n), f(x) for a sample whose system is not solved.

        Args:
            function: f of the samples at hand.
            x: iterates (m, n).
            image: f(x) (m, n).
            moving: which samples take the step (m,); the others take f(x).
        """
        self.spent = 0
        if not bool(moving.any()):
            return image
        slopes = function.slopes(x, image)
        residual = (image - x).masked_fill_(~moving[:, None], 0.0)
        solved, delta = moving, None
        if self._matrix is None:
            delta, solved = self._by_products(function, slopes, residual, moving)
        if delta is None:
            assert self._matrix is not None, "what else there is"
            systems = slopes[:, :, None] * -self._matrix
            systems.diagonal(dim1=1, dim2=2).add_(1)
            delta = torch.linalg.solve_ex(systems, residual[:, :, None]).result.squeeze(2)
        following = x + delta
        usable = solved & following.isfinite().all(dim=1)
        return torch.where(usable[:, None], following, image)

    def _by_products(
        self, function: Linearised, slopes: Tensor, residual: Tensor, moving: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Return δ (m, n), None where it is to be found by factorisation, and what is solved."""
        linear = function.linear
        delta, left, self.spent = bicgstab(
            lambda v: function.tangent(v, slopes),
            residual,
            reduction=_REDUCTION_OF_LINEAR if linear else _REDUCTION,
            most=_MOST_OF_LINEAR if linear else _MOST,
        )
        solved = moving & (left <= _NOWHERE)
        nowhere = bool((moving & ~solved).any())
        self._products += self.spent
        if nowhere or self._products > residual.shape[1] / 2:
            if _multiplications(residual) <= _LARGEST_OF_ALL:
                self._matrix = function.matrix()
                return (None, moving) if nowhere else (delta, solved)
            self.failed = nowhere
        return delta, solved


def factorises(x: Tensor) -> bool:
    """Whether a step from these iterates (m, n) is by factorisation, and so sure of its systems."""
    return _multiplications(x) <= _LARGEST


def solves_at_once(x: Tensor) -> bool:
    """Whether a factorisation for these iterates (m, n) takes no longer than some coarse steps."""
    return _multiplications(x) <= _SMALL


def _multiplications(x: Tensor) -> float:
    return len(x) * float(x.shape[1]) ** 3
