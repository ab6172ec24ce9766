"""What solvers that begin with a backward elimination share: one serves any number of non-zeros."""

from __future__ import annotations

from abc import abstractmethod
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
from idl_cli.sim.solvers.supports.elimination import Elimination


class Eliminating(BaseSolver):
    """A solver that goes on from an elimination of all weights, its own or an earlier solve's.

    Attributes:
        ridge: of the elimination, relative to the mean diagonal of G.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L2, BUDGET, NONZEROS})
    ridge: float

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve; see :class:`BaseSolver`."""
        elimination = Elimination.of(problem, self.ridge, monitor.group)
        return self.solve_eliminated(problem, monitor, elimination)

    def solve_from(self, problem: RowRegression, monitor: Monitor, start: Start) -> SolverResult:
        """Solve with the elimination of an earlier solve."""
        elimination = Elimination.of(problem, self.ridge, monitor.group, start.memory)
        return self.solve_eliminated(problem, monitor, elimination)

    @abstractmethod
    def solve_eliminated(
        self, problem: RowRegression, monitor: Monitor, elimination: Elimination
    ) -> SolverResult:
        """Solve; the result's ``memory`` is the elimination."""
