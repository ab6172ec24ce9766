"""Supports by backward elimination, refitted: the best of one greedy pass from the dense fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import (
    BUDGET,
    L2,
    NONZEROS,
    BaseSolver,
    Monitor,
    SolverResult,
    Start,
)
from idl_cli.sim.solvers.options import BackwardEliminationOptions
from idl_cli.sim.solvers.supports.elimination import Elimination
from idl_cli.sim.solvers.supports.refit import descend, limits_of


@dataclass(frozen=True, kw_only=True)
class BackwardEliminationSolver(BackwardEliminationOptions, BaseSolver):
    """Optimal brain surgeon on every row, then least squares on what is left.

    The weights go one after another, the one whose removal costs least first (Hassibi and Stork,
    NeurIPS 1992; Frantar and Alistarh, arXiv 2208.11580); a few steps of hard thresholding
    pursuit follow. Iterations are those steps.

    Args:
        ridge: of the elimination, relative to the mean diagonal of G: weights that the data hardly
            tell apart are then told apart by their size. The refit has none.
    """

    name: ClassVar[str] = "backward_elimination"
    handles: ClassVar[frozenset[str]] = frozenset({L2, BUDGET, NONZEROS})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve; see :class:`BaseSolver`."""
        return self._solve(problem, monitor, None)

    def solve_from(self, problem: RowRegression, monitor: Monitor, start: Start) -> SolverResult:
        """Solve with the elimination of an earlier solve, which serves any number of non-zeros."""
        return self._solve(problem, monitor, start.memory)

    def _solve(self, problem: RowRegression, monitor: Monitor, known: object) -> SolverResult:
        elimination = Elimination.of(problem, self.ridge, monitor.group, known)
        supports = elimination.path.supports(limits_of(problem))
        found, stationary, steps = descend(problem, supports, monitor)
        monitor(found.weights, iteration=steps)
        return SolverResult(found.weights, steps, stationary=stationary, memory=elimination)
