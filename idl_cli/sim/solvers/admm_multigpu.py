"""ADMM over several processes, one a GPU as a rule: the rows split, each solved by ``admm``."""

from __future__ import annotations

from dataclasses import dataclass

from idl_cli.sim.problem import RowRegression
from idl_cli.sim.solvers.admm import ADMMSolver
from idl_cli.sim.solvers.base import Monitor, SolverResult
from idl_cli.sim.solvers.row_shares import solve_in_shares
from idl_cli.sim.solvers.stopwatch import Stopwatch


@dataclass(frozen=True, kw_only=True)
class ADMMMultiGPUSolver(ADMMSolver):
    """The same as ``ADMMSolver``, on the processes of a group.

    Rows are independent of each other: they are split over the processes, each of which runs the
    iterations of ``ADMMSolver`` on its own, and put together at the end.
    """

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve with all processes of the monitor's group; see :class:`BaseSolver`."""
        if monitor.group.size == 1:
            return super().solve(problem, monitor)
        return solve_in_shares(problem, self, monitor, Stopwatch(problem.cross.device))
