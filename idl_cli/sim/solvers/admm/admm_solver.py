"""ADMM on the sufficient statistics: all rows at once, a cached eigendecomposition, polish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import BUDGET, L1, L2, BaseSolver, Monitor, SolverResult, Start
from idl_cli.sim.solvers.admm.phases import ADMMRun, solve_in_phases
from idl_cli.sim.solvers.options import AdmmOptions


@dataclass(frozen=True, kw_only=True)
class ADMMSolver(AdmmOptions, BaseSolver):
    """Alternating direction method of multipliers, in unit-diagonal coordinates.

    Iterations are those of ADMM; each costs one product (rows, D) x (D, D). Rows that the
    certificate accepts leave the iteration. ADMM finds the support soon and the last digits
    slowly, so that rows are polished on their support at ``warm_iterations`` and again whenever
    the number of iterations has doubled.

    Args:
        max_iter: largest number of iterations, float32 and float64 together.
        rho: initial penalty ρ > 0 in units of the (unit) diagonal of the scaled gram matrix.
        relaxation: over-relaxation in [1, 2); 1.6 as usual.
        adapt_every: iterations between adjustments of ρ; 0 keeps it fixed. ρ is left alone after
            half of ``max_iter``, so that the convergence proof for fixed ρ applies.
        warm_iterations: first iterations done in float32, at half the cost; 0 for none. 800 find
            most of the support at small λ too, which spares the polish its factorisations.
        check_every: iterations between looks at the certificate.
        polish_passes: factorisations a row and polish; 0 for pure ADMM.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L1, L2, BUDGET})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Iterate until the monitor says stop; see :class:`BaseSolver`."""
        return self._solve(problem, monitor, None)

    def solve_from(self, problem: RowRegression, monitor: Monitor, start: Start) -> SolverResult:
        """Iterate from the start's weights and multipliers, which are polished at once."""
        return self._solve(problem, monitor, start)

    def _solve(self, problem: RowRegression, monitor: Monitor, start: Start | None) -> SolverResult:
        return solve_in_phases(ADMMRun, problem, self, monitor, start)
