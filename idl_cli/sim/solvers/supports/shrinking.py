"""The inverse Hessian of one row's weights, from which weights leave, updated in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PANEL = 256
"""Rows that are updated together, up to their diagonal block: enough for a fast product, and nearly
half of the work is left out."""


@dataclass(eq=False)
class ShrinkingInverse:
    """K = G⁻¹ of the weights that are left, and those weights.

    Attributes:
        inverse: K (n, n); entries above its diagonal blocks of ``PANEL`` are not kept up to date,
            their mirror images stand for them.
        weights: (n,).
        alive: (n,) int64, which weights these are.
    """

    inverse: Tensor
    weights: Tensor
    alive: Tensor

    def remove(self, count: int) -> tuple[Tensor, Tensor]:
        """Remove the ``count`` weights that cost least: which they were, and their increments."""
        left = len(self.weights) - count
        scores = self.weights.square() / self.inverse.diagonal()
        gone = scores.topk(count, largest=False).indices
        lines = self._rows(gone)
        factor = torch.linalg.cholesky(lines[:, gone])
        half = torch.linalg.solve_triangular(factor, self.weights[gone, None], upper=False)
        scaled = torch.linalg.solve_triangular(factor, lines, upper=False)
        order, increments = self.alive[gone], 0.5 * half[:, 0].square()
        self.weights -= (scaled.T @ half)[:, 0]
        self._close_gaps(gone, scaled)
        for start in range(0, left, PANEL):
            panel = slice(start, min(start + PANEL, left))
            before = scaled[:, : panel.stop]
            self.inverse[panel, : panel.stop].addmm_(scaled[:, panel].T, before, alpha=-1)
        return order, increments

    def whole(self) -> Tensor:
        """K with both its halves."""
        return self._rows(torch.arange(len(self.weights), device=self.weights.device))

    def _close_gaps(self, gone: Tensor, scaled: Tensor) -> None:
        """Move weights from the end, and their columns of ``scaled``, to where others left."""
        left = len(self.weights) - len(gone)
        stays = torch.ones_like(self.weights, dtype=torch.bool).index_fill_(0, gone, False)
        moved = left + stays[left:].nonzero()[:, 0]
        free = gone[gone < left]
        lines = self._rows(moved)
        lines[:, free] = lines[:, moved]
        self.inverse[free] = lines
        self.inverse[:, free] = lines.T
        self.weights[free] = self.weights[moved]
        self.alive[free] = self.alive[moved]
        scaled[:, free] = scaled[:, moved]
        self.inverse = self.inverse[:left, :left]
        self.weights, self.alive = self.weights[:left], self.alive[:left]

    def _rows(self, index: Tensor) -> Tensor:
        panels = torch.arange(len(self.weights), device=self.weights.device) // PANEL
        kept = panels[index][:, None] >= panels
        rows = self.inverse.index_select(0, index)
        # Of the transpose, whose rows are gathered several times as fast as columns are.
        return torch.where(kept, rows, self.inverse.T.index_select(0, index))
