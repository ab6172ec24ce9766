"""Supports by splitting: a ridge step for all weights, the k largest of them, and in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import (
    BUDGET,
    L2,
    NONZEROS,
    BaseSolver,
    Monitor,
    SolverResult,
)
from idl_cli.sim.solvers.options import TopKOptions
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.supports.refit import descend, limits_of, top


@dataclass(frozen=True, kw_only=True)
class TopKSolver(TopKOptions, BaseSolver):
    """ADMM with the k largest weights in place of soft thresholding, then a refit.

    With one eigendecomposition of the unit-diagonal G for all steps and rows, ρ rising until the
    supports stand still (ALPS: Meng, Behdin, Wang, Mazumder, NeurIPS 2024, arXiv 2406.07831).
    Hard thresholding pursuit follows. Iterations are ADMM steps.

    Args:
        max_iter: ADMM steps at most.
        rho: first ρ, relative to the unit diagonal.
        growth: factor of ρ every three steps, > 1.
    """

    name: ClassVar[str] = "top_k"
    handles: ClassVar[frozenset[str]] = frozenset({L2, BUDGET, NONZEROS})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve; see :class:`BaseSolver`."""
        supports, steps = self._supports(problem, limits_of(problem), monitor)
        found, stationary, _ = descend(problem, supports, monitor)
        monitor(found.weights, iteration=steps)
        return SolverResult(found.weights, steps, stationary=stationary)

    def _supports(
        self, problem: RowRegression, sizes: Tensor, monitor: Monitor
    ) -> tuple[Tensor, int]:
        scaled = ScaledProblem.of(problem)
        values, vectors = torch.linalg.eigh(scaled.gram)
        values = values.clamp(min=0)
        rotated = scaled.cross @ vectors
        rho = self.rho
        sparse = torch.zeros_like(scaled.cross)
        dual = torch.zeros_like(sparse)
        supports, still = sparse != 0, 0
        for step in range(1, self.max_iter + 1):
            right = rotated + (rho * sparse - dual) @ vectors
            dense = (right / (values + rho)) @ vectors.T
            moved = dense + dual / rho
            chosen = top(moved.abs(), sizes)
            sparse = moved.where(chosen, torch.zeros_like(moved))
            dual = dual + rho * (dense - sparse)
            still = still + 1 if torch.equal(chosen, supports) else 0
            supports = chosen
            # Early on supports rest for a few steps while ρ is still too small to hold them.
            if (still >= 10 and rho >= 1) or monitor.time_is_up():
                return supports, step
            if step % 3 == 0:
                rho *= self.growth
        return supports, self.max_iter
