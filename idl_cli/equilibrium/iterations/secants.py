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
        self._parts: list[tuple[Tensor | None, Tensor, Tensor]] = []

    def follow(self, rows: Tensor | None, steps: Tensor, changes: Tensor) -> None:
        """Take note of where those of the samples at hand are written from now on.

        Args:
            rows: indices of these samples (k,); None for all.
            steps: ΔX (k, window, n), zeros where there were fewer.
            changes: ΔG, likewise.
        """
        self._parts.append((rows, steps, changes))

    def _merged(self, samples: int) -> tuple[Tensor, Tensor]:
        _, steps, changes = self._parts[0]
        pair = [each.new_zeros(samples, *each.shape[1:]) for each in (steps, changes)]
        for rows, *parts in self._parts:
            for whole, part in zip(pair, parts, strict=True):
                if rows is None:
                    whole.copy_(part)
                else:
                    whole.index_copy_(0, rows, part)
        return pair[0], pair[1]

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Return w (m, n) for ∂ (m, n); ∂ itself where no step was taken."""
        if not self._parts:
            return gradient
        steps, changes = self._merged(len(gradient))
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
