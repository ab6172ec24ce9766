"""Accelerated projected gradient: the row problem itself, or with A = L Rᵀ of a given rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solver import BUDGET, L1, L2, BaseSolver, Monitor, SolverResult
from idl_cli.sim.solvers.accelerated import AcceleratedRows
from idl_cli.sim.solvers.low_rank import LowRankRows
from idl_cli.sim.solvers.options import ProjectedGdOptions


@dataclass(frozen=True, kw_only=True)
class ProjectedGDLowRankSolver(ProjectedGdOptions, BaseSolver):
    """Proximal gradient with momentum; every iterate obeys the budget.

    Without a rank, or with one that restricts nothing, the problem is convex and the answer is its
    optimum. With a rank the budgeted weights are A = L Rᵀ, ‖L‖∞ ≤ κ and ‖Rᵀ‖∞ ≤ 1, and λ weighs
    ‖L‖₁ + ‖B‖₁ (:mod:`idl_cli.sim.solvers.low_rank` says why): that problem is not convex, and a
    stationary point, no worse than all-zero weights, is what can be claimed. A problem without a
    budget, such as that of [C D], has nothing to factor and is solved to its optimum.

    An iteration is a gradient and a prox of all rows, or of all blocks.

    Args:
        rank: of A; None, or min(rows, budgeted weights) and more, for a dense A.
        max_iter: largest number of iterations.
        check_every: iterations between looks at the certificate.
        stationary_tol: largest relative prox-gradient mapping at which a low-rank point counts as
            stationary.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L1, L2, BUDGET})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Iterate until the monitor says stop or a low-rank point is stationary."""
        budget = problem.budget
        if budget is None or self.rank is None or self.rank >= min(problem.rows, budget.count):
            return self._solve_dense(problem, monitor)
        return self._solve_low_rank(problem, budget, self.rank, monitor)

    def _solve_dense(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        rows = AcceleratedRows(problem)
        iteration = 0
        progress = monitor(rows.weights, iteration=iteration)
        while not progress.should_stop and iteration < self.max_iter:
            rows.retire(progress.solved)
            for _ in range(min(self.check_every, self.max_iter - iteration)):
                rows.step()
                iteration += 1
                if monitor.time_is_up():
                    break
            progress = monitor(rows.weights, iteration=iteration)
        return SolverResult(weights=rows.weights, iterations=iteration)

    def _solve_low_rank(
        self, problem: RowRegression, budget: RowBudget, rank: int, monitor: Monitor
    ) -> SolverResult:
        blocks = LowRankRows(problem, budget, rank)
        iteration = 0
        moving = True
        progress = monitor(blocks.weights, iteration=iteration)
        stationary = blocks.stationarity() <= self.stationary_tol
        while moving and not stationary and not progress.should_stop and iteration < self.max_iter:
            for _ in range(min(self.check_every, self.max_iter - iteration)):
                moving = blocks.step()
                iteration += 1
                if not moving or monitor.time_is_up():
                    break
            progress = monitor(blocks.weights, iteration=iteration)
            stationary = blocks.stationarity() <= self.stationary_tol
        return SolverResult(
            weights=blocks.weights,
            iterations=iteration,
            factors=blocks.factors,
            # Float64 sees no descent left, or the weights are optimal without a bound on the rank.
            stationary=stationary or not moving or bool(progress.solved.all()),
        )
