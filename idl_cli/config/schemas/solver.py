"""Solvers of `idl sim`: how a row problem is solved; its numbers stand in `trainer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE, NON_NEGATIVE, POSITIVE, PROCESSES, Range

_UNIT = Range(0, 1, low_open=True, high_open=True)


@dataclass(frozen=True)
class ActiveSet:
    """Rows by primal-dual active-set steps: the fastest to full precision."""

    name: Literal["active_set"] = "active_set"
    max_iter: Annotated[int, AT_LEAST_ONE] = 40
    warm_iterations: Annotated[int, NON_NEGATIVE] = 800
    attempts: Annotated[int, AT_LEAST_ONE] = 5


@dataclass(frozen=True)
class ADMM:
    """Alternating direction method of multipliers, all rows at once, polished on the support."""

    name: Literal["admm"] = "admm"
    max_iter: Annotated[int, AT_LEAST_ONE] = 10000
    rho: Annotated[float, POSITIVE] = 0.1
    relaxation: Annotated[float, Range(1, 2, high_open=True)] = 1.6
    adapt_every: Annotated[int, NON_NEGATIVE] = 20
    warm_iterations: Annotated[int, NON_NEGATIVE] = 800
    check_every: Annotated[int, AT_LEAST_ONE] = 50
    polish_passes: Annotated[int, NON_NEGATIVE] = 40


@dataclass(frozen=True)
class ADMMMultiGPU:
    """ADMM on several GPUs, machines or CPU processes: the same answer as admm, rows shared out."""

    name: Literal["admm_multigpu"] = "admm_multigpu"
    devices: Annotated[int, AT_LEAST_ONE] | tuple[Annotated[int, NON_NEGATIVE], ...] | None = field(
        default=None, metadata=PROCESSES
    )
    processes: Annotated[int, AT_LEAST_ONE] | None = field(default=None, metadata=PROCESSES)
    column_blocks: Literal["auto", "always", "never"] = "auto"
    max_iter: Annotated[int, AT_LEAST_ONE] = 10000
    rho: Annotated[float, POSITIVE] = 0.1
    relaxation: Annotated[float, Range(1, 2, high_open=True)] = 1.6
    adapt_every: Annotated[int, NON_NEGATIVE] = 20
    warm_iterations: Annotated[int, NON_NEGATIVE] = 800
    check_every: Annotated[int, AT_LEAST_ONE] = 50
    polish_passes: Annotated[int, NON_NEGATIVE] = 40


@dataclass(frozen=True)
class CVX:
    """Row by row through CVXPY and a general-purpose solver: slow, and independent of ours."""

    name: Literal["cvx"] = "cvx"
    backend: Literal["clarabel", "scs", "osqp", "highs", "mosek", "gurobi"] = "clarabel"
    accuracy: Annotated[float, _UNIT] = 1e-12
    processes: Annotated[int, AT_LEAST_ONE] = field(default=1, metadata=PROCESSES)


@dataclass(frozen=True)
class LeastSquares:
    """Least squares of minimum norm: ignores the penalty and the bound on ‖A‖∞, and says so."""

    name: Literal["least_squares"] = "least_squares"
    rank_tol: Annotated[float, _UNIT] = 1e-12


@dataclass(frozen=True)
class ProjectedGD:
    """Accelerated projected gradient, for A = L Rᵀ of a given rank too."""

    name: Literal["projected_gd"] = "projected_gd"
    rank: Annotated[int, AT_LEAST_ONE] | None = None
    max_iter: Annotated[int, AT_LEAST_ONE] = 20000
    check_every: Annotated[int, AT_LEAST_ONE] = 50
    stationary_tol: Annotated[float, _UNIT] = 1e-6
