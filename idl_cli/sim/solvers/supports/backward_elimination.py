"""Supports by backward elimination, refitted: the best of one greedy pass from the dense fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, SolverResult
from idl_cli.sim.solvers.options import BackwardEliminationOptions
from idl_cli.sim.solvers.supports.eliminating import Eliminating
from idl_cli.sim.solvers.supports.elimination import Elimination
from idl_cli.sim.solvers.supports.refit import descend, limits_of
from idl_cli.sim.solvers.supports.shares import in_shares


@dataclass(frozen=True, kw_only=True)
class BackwardEliminationSolver(BackwardEliminationOptions, Eliminating):
    """Optimal brain surgeon on every row, then least squares on what is left.

    The weights go one after another, the one whose removal costs least first (Hassibi and Stork,
    NeurIPS 1992; Frantar and Alistarh, arXiv 2208.11580); a few steps of hard thresholding
    pursuit follow. Iterations are those steps.

    Args:
        ridge: of the elimination, relative to the mean diagonal of G: weights that the data hardly
            tell apart are then told apart by their size. The refit has none.
    """

    name: ClassVar[str] = "backward_elimination"

    def solve_eliminated(
        self, problem: RowRegression, monitor: Monitor, elimination: Elimination
    ) -> SolverResult:
        """Refit the supports that the elimination leaves."""
        supports = elimination.path.supports(limits_of(problem))
        weights, done, steps = in_shares(
            problem, monitor.group, lambda part, rows: descend(part, supports[rows], monitor)
        )
        monitor(weights, iteration=max(steps))
        return SolverResult(weights, max(steps), stationary=done, memory=elimination)
