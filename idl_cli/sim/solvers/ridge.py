"""(G + ρI)⁻¹ of a scaled problem: factorised once, made anew when ρ or the precision changes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class RidgeInverse(Protocol):
    """What an iteration needs of (G + ρI)⁻¹; its right-hand sides are rows."""

    def prepare(self, rho: float, dtype: torch.dtype) -> None:
        """Choose ρ and the precision of :meth:`step`."""
        ...

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        ...

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
        ...


class EigenInverse:
    """The inverse from one eigendecomposition: another ρ costs a product of (D, D) matrices.

    Args:
        gram: G (D, D) float64, symmetric positive semi-definite.
    """

    def __init__(self, gram: Tensor) -> None:
        values, self._vectors = torch.linalg.eigh(gram)
        self._values = values.clamp(min=0)
        self._key: tuple[float, torch.dtype] | None = None
        self._rho = 1.0
        self._operator = gram

    def prepare(self, rho: float, dtype: torch.dtype) -> None:
        """Make the inverse for ρ, and ρ times it in ``dtype``."""
        if self._key == (rho, dtype):
            return
        inverse = (self._vectors / (self._values + rho)) @ self._vectors.T
        self._operator = inverse.mul_(rho).to(dtype)
        self._rho = rho
        self._key = (rho, dtype)

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        coordinates = values @ self._vectors
        return coordinates.div_(self._values + self._rho) @ self._vectors.T

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
        return torch.addmm(constant, values, self._operator)
