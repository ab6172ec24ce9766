"""Active-set steps to full precision from a short warm start: the fastest way to the last digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import BUDGET, L1, L2, BaseSolver, Monitor, SolverResult, Start
from idl_cli.sim.solvers.admm.iteration import Splitting, SplittingState
from idl_cli.sim.solvers.options import ActiveSetOptions, AdmmOptions
from idl_cli.sim.solvers.polish import Incumbent
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.warm_start import warm_start_pays, warm_started


@dataclass(frozen=True, kw_only=True)
class ActiveSetSolver(ActiveSetOptions, BaseSolver):
    """Rows by primal-dual active-set steps (see :mod:`idl_cli.sim.solvers.row_descent`).

    Where the support starts is found for all rows at once by a few float32 splitting iterations.
    A row that the steps do not finish is warmed up twice as long, in float64, and tried again: a
    first-order method as safe fallback.

    Iterations are factorisations, summed over the rows.

    Args:
        max_iter: factorisations of one row at most, in each attempt.
        warm_iterations: splitting iterations before the first attempt. For all rows together one
            costs less than one factorisation of one row; 800 find most of the support at small λ
            too, where 200 leave three times the work to the factorisations.
        attempts: how often a row is tried.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L1, L2, BUDGET})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve row after row until the monitor says stop; see :class:`BaseSolver`."""
        scaled = ScaledProblem.of(problem)
        splitting = Splitting(problem, scaled, AdmmOptions.relaxation)
        state = SplittingState.zeros(scaled.cross.float(), AdmmOptions.rho)
        state = splitting.run(
            state, self.warm_iterations, AdmmOptions.adapt_every, time_is_up=monitor.time_is_up
        ).to(torch.float64)
        return self._finish(problem, monitor, splitting, state, settle_first=False)

    def solve_from(self, problem: RowRegression, monitor: Monitor, start: Start) -> SolverResult:
        """As ``solve``, with the support of the start instead of one found by splitting."""
        scaled = ScaledProblem.of(problem, start.memory)
        splitting = Splitting(problem, scaled, AdmmOptions.relaxation)
        points = scaled.from_weights(start.weights)
        if warm_start_pays(problem, points):
            state = warm_started(
                problem, scaled, points, AdmmOptions.relaxation, time_is_up=monitor.time_is_up
            )
            return self._finish(problem, monitor, splitting, state, settle_first=False)
        state = SplittingState.at(points, scaled, AdmmOptions.rho)
        return self._finish(problem, monitor, splitting, state, settle_first=True)

    def _finish(
        self,
        problem: RowRegression,
        monitor: Monitor,
        splitting: Splitting,
        state: SplittingState,
        *,
        settle_first: bool,
    ) -> SolverResult:
        """Polish all rows, and go on splitting for those that it does not finish."""
        scaled = splitting.scaled
        rows = torch.arange(problem.rows, device=scaled.cross.device)
        incumbent = Incumbent(problem, scaled, state.sparse)
        # A look costs as much as several rows that are nearly done: after a start none comes first.
        progress = None if settle_first else monitor(incumbent.weights, iteration=0)
        warm = self.warm_iterations
        for attempt in range(self.attempts):
            if progress is not None:
                if progress.should_stop:
                    break
                keep = ~progress.solved[rows]
                rows, state = rows[keep], state.select(keep)
            if attempt:
                splitting.restrict(rows)
                state = splitting.run(
                    state,
                    max(warm, AdmmOptions.adapt_every),
                    AdmmOptions.adapt_every,
                    time_is_up=monitor.time_is_up,
                )
                warm *= 2
                incumbent.offer(state.sparse, rows)
            progress = incumbent.polish(
                state.sparse,
                rows,
                monitor,
                iteration=int(incumbent.passes.sum()),
                max_passes=self.max_iter,
                settle_first=settle_first and attempt == 0,
            )
        passes = int(incumbent.passes.sum())
        return SolverResult(weights=incumbent.weights, iterations=passes, memory=scaled)
