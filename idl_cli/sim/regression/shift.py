"""A row problem's statistics with offsets of features and targets taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Shift:
    """Sums of features s̃ = s − μ s_c and targets z̃ = z − ν s_c, s_c being the constant feature.

    Σ w_j s_j = Σ w̃_j s̃_j with w̃ = w but for w̃_c = w_c + Σ μ_j w_j, and the target takes ν of that:
    only the weight of the constant is another one. These sums keep the digits that offsets cost.

    Args:
        constant: c, the index of the constant feature.
        features: μ (D,) float64 in units of s_c, zero at c.
        targets: ν (rows,) float64 in units of s_c.
        gram: Σ s̃ s̃ᵀ, of the shape of the problem's own.
        cross: Σ z̃ s̃ᵀ (rows, D).
        target_square: Σ z̃² (rows,).
    """

    constant: int
    features: Tensor
    targets: Tensor
    gram: Tensor
    cross: Tensor
    target_square: Tensor

    def weights(self, weights: Tensor) -> Tensor:
        """The weights w̃ less ν (rows, D) of given ones."""
        shifted = weights.clone()
        shifted[:, self.constant] += weights @ self.features - self.targets
        return shifted

    def correlations(self, shifted: Tensor) -> Tensor:
        """The vectors g = S r from S̃ r (rows, D)."""
        return torch.addcmul(shifted, shifted[:, self.constant, None], self.features)

    def select(self, rows: Tensor) -> Shift:
        """Of some rows only (index or mask)."""
        return replace(
            self,
            targets=self.targets[rows],
            cross=self.cross[rows],
            target_square=self.target_square[rows],
        )
