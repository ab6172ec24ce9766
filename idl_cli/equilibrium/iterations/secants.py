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
        self._pairs: tuple[Tensor, Tensor] | None = None

    def write(self, rows: Tensor | None, steps: Tensor, changes: Tensor) -> None:
        """Write those of the samples at hand.

        Args:
            rows: indices of these samples (k,); None for all.
            steps: ΔX (k, window, n), zeros where there were fewer.
            changes: ΔG, likewise.
        """
        if self._pairs is None or rows is None:
            self._pairs = steps.clone(), changes.clone()
            return
        for known, new in zip(self._pairs, (steps, changes), strict=True):
            known.index_copy_(0, rows, new)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Return w (m, n) for ∂ (m, n); ∂ itself where no step was taken."""
        if self._pairs is None:
            return gradient
        steps, changes = self._pairs
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
