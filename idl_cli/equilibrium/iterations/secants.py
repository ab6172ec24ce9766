"""What a solve by Anderson's method has learnt of f′, for the adjoint of the same equation.

With the last steps' ΔX and the changes ΔG that they made to g(x) = f(x) − x, the matrix that maps
ΔG to ΔX and is nearest to −I stands in Anderson's step for (f′ − I)⁻¹,

    H = −I + (ΔX + ΔG)(ΔGᵀΔG)⁻¹ΔGᵀ,

so that w = ∂ + f′ᵀw has the approximate solution w = −Hᵀ∂ without a product (SHINE: Ramzi et al.,
ICLR 2022, arXiv 2106.00553, there with Broyden's H).
"""

from __future__ import annotations

import torch
from torch import Tensor

_REGULARIZATION = 10  # units of rounding


class Secants:
    """The last steps of every sample of one solve, and the changes that they made."""

    def __init__(self) -> None:
        self._left: list[tuple[Tensor, Tensor, Tensor]] = []
        self._live: tuple[Tensor, Tensor, Tensor] | None = None

    def follow(self, rows: Tensor, steps: Tensor, changes: Tensor) -> None:
        """Take note of where those of the samples at hand are written from now on.

        Args:
            rows: indices of these samples (k,).
            steps: ΔX (k, window, n), zeros where there were fewer.
            changes: ΔG, likewise.
        """
        self._live = rows, steps, changes

    def leave(self, kept: Tensor) -> None:
        """Keep those of the samples at hand that are not among these indices (l,)."""
        if self._live is not None:
            leaving = torch.ones_like(self._live[0], dtype=torch.bool)
            leaving[kept] = False
            rows, steps, changes = self._live
            self._left.append((rows[leaving], steps[leaving], changes[leaving]))

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Return w (m, n) for ∂ (m, n); ∂ itself where no step was taken."""
        if self._live is None:
            return gradient
        parts = zip(*self._left, self._live, strict=True)
        rows, steps, changes = (torch.cat(each) for each in parts)
        known = torch.full((len(gradient),), len(rows), device=rows.device)
        known[rows] = torch.arange(len(rows), device=rows.device)
        # Samples that had converged at the first look have no steps.
        steps, changes = (
            torch.cat([each, each.new_zeros(1, *each.shape[1:])])[known]
            for each in (steps, changes)
        )
        # Late steps are short; what a direction tells does not depend on its length.
        length = torch.linalg.vector_norm(changes, dim=2, keepdim=True)
        length.clamp_(min=torch.finfo(gradient.dtype).tiny)
        changes = changes / length
        directions = steps / length + changes
        gram = changes @ changes.mT
        shift = _REGULARIZATION * torch.finfo(gradient.dtype).eps
        # An empty place of the window has a row of zeros.
        gram.diagonal(dim1=1, dim2=2).add_(shift)
        weights = torch.linalg.solve_ex(gram, directions @ gradient[:, :, None]).result
        w: Tensor = gradient - (changes.mT @ weights).squeeze(2)
        return torch.where(w.isfinite().all(dim=1, keepdim=True), w, gradient)
