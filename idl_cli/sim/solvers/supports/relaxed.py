"""Supports of the λ path, refitted without shrinkage (the relaxed Lasso)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
from idl_cli.sim.solvers.options import RelaxedOptions
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.supports.refit import limits_of, refit

_SMALLEST = 1e-9
"""λ, relative to a row's λ_max, below which a support counts as dense."""


@dataclass(frozen=True, kw_only=True)
class RelaxedSolver(RelaxedOptions, BaseSolver):
    """The l1 penalty chooses the support of every row, least squares its weights.

    λ is found by bisection, each solve from the one before; where no λ gives the number of weights
    wanted, the next smaller support is taken and filled up with the features whose correlation
    with the residual is largest (Meinshausen, Comput. Stat. Data Anal. 52, 2007). Nothing is
    claimed of the supports themselves: the status is ``stationary``, on the support. Iterations
    are solves of a row.

    Args:
        bisections: of λ, for each row.
        max_iter: passes of one solve at most.
    """

    name: ClassVar[str] = "relaxed"
    handles: ClassVar[frozenset[str]] = frozenset({L2, BUDGET, NONZEROS})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve; see :class:`BaseSolver`."""
        scaled = ScaledProblem.of(problem)
        sizes = limits_of(problem).tolist()
        supports = torch.zeros_like(problem.cross, dtype=torch.bool)
        solves, complete = 0, True
        for row, size in enumerate(sizes):
            if monitor.time_is_up():
                complete = False
                break
            supports[row], taken = self._support(problem, scaled, row, size)
            solves += taken
        found = refit(problem, supports)
        monitor(found.weights, iteration=solves)
        return SolverResult(found.weights, solves, stationary=complete)

    def _support(
        self, problem: RowRegression, scaled: ScaledProblem, row: int, size: int
    ) -> tuple[Tensor, int]:
        largest = float(problem.cross[row].abs().max())
        point = best = torch.zeros_like(scaled.cross[row])
        if size >= problem.features:
            return torch.ones_like(best, dtype=torch.bool), 0
        if largest == 0 or size == 0:
            return best != 0, 0
        low, high = math.log(_SMALLEST * largest), math.log(largest)
        convex = replace(problem, nonzeros=None)
        taken = 0
        for _ in range(self.bisections):
            middle = 0.5 * (low + high)
            penalised = replace(convex, l1=math.exp(middle))
            point, _ = polish_row(penalised, scaled, row, point, max_passes=self.max_iter)
            taken += 1
            count = int((point != 0).sum())
            if count > size:
                low = middle
                continue
            high = middle
            if count >= int((best != 0).sum()):
                best = point
            if count == size:
                break
        left = (scaled.cross[row] - scaled.gram @ best).abs().masked_fill(best != 0, -1.0)
        missing = size - int((best != 0).sum())
        return (best != 0).index_fill(0, left.topk(missing).indices, True), taken
