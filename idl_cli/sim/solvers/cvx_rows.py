"""One row of the problem as a CVXPY program, compiled once and solved for many rows.

This module needs neither torch nor anything of idl, so that a worker process starts quickly.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import cvxpy
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# What solvers call a limit in seconds; MOSEK has it among its own parameters.
_TIME_LIMITS: Final = MappingProxyType(
    {
        cvxpy.CLARABEL: "time_limit",
        cvxpy.SCS: "time_limit_secs",
        cvxpy.OSQP: "time_limit",
        cvxpy.HIGHS: "time_limit",
        cvxpy.GUROBI: "TimeLimit",
    }
)


@dataclass(frozen=True)
class RowShape:
    """What all rows have in common, in unit-diagonal coordinates v.

    Attributes:
        gram: (D, D), positive semi-definite up to rounding.
        cost: (D,), weight of |v_j| in penalty and budget.
        penalised: whether there is an l1 penalty.
        budget: number of leading entries with a budget, 0 for none.
        backends: CVXPY solvers to try, in order.
        accuracy: their tolerance.
        threads: of each solve.
        deadline: value of ``time.monotonic``, one for all processes of a machine, at which solves
            end with what they have; None for no limit.
    """

    gram: Vector
    cost: Vector
    penalised: bool
    budget: int
    backends: tuple[str, ...]
    accuracy: float
    threads: int
    deadline: float | None = None


@dataclass(frozen=True)
class RowAnswer:
    """A row's minimiser, or None, with what every backend tried said."""

    value: Vector | None
    statuses: tuple[str, ...]


class CompiledRow:
    """½ vᵀGv − hᵀv + λ costᵀ|v|, subject to costᵀ|v| ≤ radius over the budgeted entries.

    h, λ and the radius are CVXPY parameters: the program is turned into solver data once, whatever
    the number of rows. D quadratic variables replace the m residuals of the raw states.
    """

    def __init__(self, shape: RowShape) -> None:
        self._shape = shape
        size = len(shape.cost)
        self._value = cvxpy.Variable(size)
        self._linear = cvxpy.Parameter(size)
        self._penalty = cvxpy.Parameter(nonneg=True)
        self._radius = cvxpy.Parameter(nonneg=True)
        quadratic = cvxpy.quad_form(self._value, cvxpy.psd_wrap(shape.gram))
        objective = 0.5 * quadratic - self._linear @ self._value
        constraints = []
        # Only entries that are charged for get a bound: a free |v_j| would have no largest value.
        charged = size if shape.penalised else shape.budget
        if charged:
            magnitude = cvxpy.Variable(charged)
            cost = shape.cost[:charged]
            constraints += [self._value[:charged] <= magnitude, -magnitude <= self._value[:charged]]
            if shape.penalised:
                objective += self._penalty * (cost @ magnitude)
            if shape.budget:
                spent = cost[: shape.budget] @ magnitude[: shape.budget]
                constraints.append(spent <= self._radius)
        self._problem = cvxpy.Problem(cvxpy.Minimize(objective), constraints)

    def solve(self, linear: Vector, penalty: float, radius: float) -> RowAnswer:
        """Minimise for one row; the backends are tried in order until one succeeds.

        Past the deadline nothing is tried.
        """
        self._linear.value = linear
        self._penalty.value = penalty
        self._radius.value = radius
        statuses = []
        for backend in self._shape.backends:
            if self._seconds_left() == 0:
                break
            status = self._attempt(backend)
            statuses.append(f"{backend}: {status}")
            value = self._value.value
            usable = status in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE)
            if usable and value is not None and np.isfinite(value).all():
                return RowAnswer(np.asarray(value), tuple(statuses))
        return RowAnswer(None, tuple(statuses))

    def _attempt(self, backend: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what CVXPY warns of is in the status
            try:
                self._problem.solve(solver=backend, **self._options(backend))
            except (cvxpy.SolverError, ArithmeticError) as error:
                return f"failed ({error})"
        return str(self._problem.status)

    def _seconds_left(self) -> float | None:
        deadline = self._shape.deadline
        return None if deadline is None else max(deadline - time.monotonic(), 0.0)

    def _options(self, backend: str) -> dict[str, Any]:
        options = self._tolerances(backend)
        left = self._seconds_left()
        if left is not None and backend in _TIME_LIMITS:
            name = _TIME_LIMITS[backend]
            options[name] = min(left, options.get(name, left))
        if left is not None and backend == cvxpy.MOSEK:
            options["mosek_params"] = {"MSK_DPAR_OPTIMIZER_MAX_TIME": left}
        return options

    def _tolerances(self, backend: str) -> dict[str, Any]:
        tol = self._shape.accuracy
        if backend == cvxpy.CLARABEL:
            names = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio")
            # faer's factorisation is blocked; the matrix here is dense.
            more = {"direct_solve_method": "faer", "max_threads": self._shape.threads}
            return {**dict.fromkeys(names, tol), **more}
        if backend == cvxpy.OSQP:
            return {"eps_abs": tol, "eps_rel": tol, "max_iter": 100_000, "polishing": True}
        if backend == cvxpy.SCS:
            return {"eps_abs": tol, "eps_rel": tol, "max_iters": 100_000}
        if backend == cvxpy.HIGHS:
            return {"log_to_console": False, "time_limit": 60.0}
        return {}
