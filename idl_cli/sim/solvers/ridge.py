"""(G + ρI)⁻¹ of a scaled problem: factorised once, made anew when ρ or the precision changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from idl_cli.sim.statistics.block_matrix import ColumnBlocks


class RidgeInverse(Protocol):
    """What an iteration needs of (G + ρI)⁻¹; its right-hand sides are rows."""

    def prepare(self, rho: float, dtype: torch.dtype) -> None:
        """Choose ρ and the precision of :meth:`step`."""
        ...

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        ...

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """Constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
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
        # An iteration in float32 needs no better operator, and gets it at half the cost.
        vectors, values = self._vectors.to(dtype), self._values.to(dtype)
        self._operator = (vectors * (rho / (values + rho))) @ vectors.T
        self._rho = rho
        self._key = (rho, dtype)

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        coordinates = (values @ self._vectors) / (self._values + self._rho)
        return torch.mm(coordinates, self._vectors.T)

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """Constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
        return torch.addmm(constant, values, self._operator)


class _OneInverse(ABC):
    """The inverse for the present ρ alone; another ρ costs another inversion."""

    def __init__(self, gram: Tensor) -> None:
        self._gram = gram
        self._rho: float | None = None
        self._inverse = gram
        self._operator = gram

    @abstractmethod
    def _invert(self, rho: float) -> Tensor:
        """(G + ρI)⁻¹ in float64, of the shape of ``gram``."""

    def prepare(self, rho: float, dtype: torch.dtype) -> None:
        """Invert where ρ is another one."""
        if rho != self._rho:
            self._inverse = self._invert(rho)
            self._rho = rho
        elif self._operator.dtype == dtype:
            return
        self._operator = self._inverse.to(dtype)


class CholeskyInverse(_OneInverse):
    """The inverse for one ρ that is known beforehand, at a fifth of an eigendecomposition's time.

    Args:
        gram: G (D, D) float64, symmetric positive semi-definite.
    """

    def _invert(self, rho: float) -> Tensor:
        shifted = self._gram.clone()
        shifted.diagonal().add_(rho)
        return torch.cholesky_inverse(torch.linalg.cholesky(shifted))

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        return values @ self._inverse

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """Constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
        assert self._rho is not None
        return torch.addmm(constant, values, self._operator, alpha=self._rho)


class BlockInverse(_OneInverse):
    """The inverse split by columns like the matrix, which all processes invert together.

    Args:
        gram: this process's columns of G (D, w) float64; G has a unit diagonal or zeros there.
        blocks: how columns are split.
    """

    def __init__(self, gram: Tensor, blocks: ColumnBlocks) -> None:
        super().__init__(gram)
        self._blocks = blocks

    def _invert(self, rho: float) -> Tensor:
        return self._blocks.inverse(self._blocks.shifted(self._gram, rho))

    def multiply(self, values: Tensor) -> Tensor:
        """V (G + ρI)⁻¹ in float64 (rows, D)."""
        return self._blocks.multiply(values, self._inverse)

    def step(self, constant: Tensor, values: Tensor) -> Tensor:
        """Constant + ρ V (G + ρI)⁻¹ in the precision chosen (rows, D)."""
        assert self._rho is not None
        return torch.add(constant, self._blocks.multiply(values, self._operator), alpha=self._rho)
