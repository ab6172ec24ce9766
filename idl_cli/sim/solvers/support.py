"""Cholesky factor of the gram matrix on a support, from which features can leave cheaply."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor


class SupportFactor:
    """Solves (G_JJ + ridge·I) x = b, with x zero at positions dropped since the factorisation.

    Dropping k positions costs k triangular solves and a k x k system (a Schur complement of the
    inverse) instead of a new factorisation.

    Args:
        block: G_JJ (n, n) float64.
        ridge: > 0; raised by powers of 100 where the block is not positive definite in floating
            point. The value used is :attr:`ridge`.
    """

    def __init__(self, block: Tensor, ridge: float) -> None:
        self.size = len(block)
        self.ridge = ridge
        while True:
            shifted = block.clone()
            shifted.diagonal().add_(self.ridge)
            self._factor, info = torch.linalg.cholesky_ex(shifted)
            if int(info) == 0:
                break
            self.ridge *= 100
        self.dropped = torch.zeros(self.size, dtype=torch.bool, device=block.device)
        self._columns = block.new_zeros(self.size, 0)
        self._positions = torch.zeros(0, dtype=torch.long, device=block.device)

    def branch(self) -> SupportFactor:
        """The same system, to drop positions from without effect on this one."""
        other = copy(self)
        other.dropped = self.dropped.clone()
        return other

    def drop(self, mask: Tensor) -> None:
        """Hold x at zero where ``mask`` (n,) is True, in addition to what was dropped before."""
        new = (mask & ~self.dropped).nonzero().squeeze(1)
        if len(new) == 0:
            return
        unit = self._columns.new_zeros(self.size, len(new))
        unit[new, torch.arange(len(new), device=new.device)] = 1.0
        self._columns = torch.cat([self._columns, torch.cholesky_solve(unit, self._factor)], dim=1)
        self._positions = torch.cat([self._positions, new])
        self.dropped[new] = True

    def has_room(self, mask: Tensor) -> bool:
        """Whether dropping ``mask`` too is cheaper than a new factorisation."""
        return int((self.dropped | mask).sum()) <= max(16, self.size // 8)

    def solve(self, right: Tensor) -> Tensor:
        """X (n, k) for right-hand sides (n, k)."""
        solution = torch.cholesky_solve(right, self._factor)
        if len(self._positions):
            small = self._columns[self._positions]
            forces = torch.linalg.solve(small, solution[self._positions])
            solution = solution - self._columns @ forces
            solution[self._positions] = 0.0
        return solution
