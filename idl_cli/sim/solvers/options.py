"""Options of the solvers: how a row problem is solved; its own numbers are the trainer's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.arguments import check_ranges
from idl_cli.config.fields import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    POSITIVE,
    PROCESSES,
    PROPER_FRACTION,
    Range,
)

Backend: TypeAlias = Literal["clarabel", "scs", "osqp", "highs", "mosek", "gurobi"]


@dataclass(frozen=True, kw_only=True)
class ActiveSetOptions:
    """Rows by primal-dual active-set steps: the fastest to full precision."""

    max_iter: Annotated[int, AT_LEAST_ONE] = 40
    warm_iterations: Annotated[int, NON_NEGATIVE] = 800
    attempts: Annotated[int, AT_LEAST_ONE] = 5

    def __post_init__(self) -> None:
        check_ranges(ActiveSetOptions, self)


@dataclass(frozen=True, kw_only=True)
class AdmmOptions:
    """Alternating direction method of multipliers, all rows at once, polished on the support."""

    max_iter: Annotated[int, AT_LEAST_ONE] = 10000
    rho: Annotated[float, POSITIVE] = 0.1
    relaxation: Annotated[float, Range(1, 2, high_open=True)] = 1.6
    adapt_every: Annotated[int, NON_NEGATIVE] = 20
    warm_iterations: Annotated[int, NON_NEGATIVE] = 800
    check_every: Annotated[int, AT_LEAST_ONE] = 50
    polish_passes: Annotated[int, NON_NEGATIVE] = 40

    def __post_init__(self) -> None:
        check_ranges(AdmmOptions, self)


@dataclass(frozen=True, kw_only=True)
class AdmmMultigpuOptions(AdmmOptions):
    """ADMM on several GPUs, machines or CPU processes: the same answer as admm, rows shared out."""

    devices: Annotated[int, AT_LEAST_ONE] | tuple[Annotated[int, NON_NEGATIVE], ...] | None = field(
        default=None, metadata=PROCESSES
    )
    processes: Annotated[int, AT_LEAST_ONE] | None = field(default=None, metadata=PROCESSES)
    column_blocks: Literal["auto", "always", "never"] = "auto"

    def __post_init__(self) -> None:
        check_ranges(AdmmMultigpuOptions, self)


@dataclass(frozen=True, kw_only=True)
class CvxOptions:
    """Row by row through CVXPY and a general-purpose solver: slow, and independent of ours."""

    backend: Backend = "clarabel"
    accuracy: Annotated[float, PROPER_FRACTION] = 1e-12
    processes: Annotated[int, AT_LEAST_ONE] = field(default=1, metadata=PROCESSES)

    def __post_init__(self) -> None:
        check_ranges(CvxOptions, self)


@dataclass(frozen=True, kw_only=True)
class LeastSquaresOptions:
    """Least squares of minimum norm: ignores the penalty and the bound on ‖A‖∞, and says so."""

    rank_tol: Annotated[float, PROPER_FRACTION] = 1e-12

    def __post_init__(self) -> None:
        check_ranges(LeastSquaresOptions, self)


@dataclass(frozen=True, kw_only=True)
class ProjectedGdOptions:
    """Accelerated projected gradient, for A = L Rᵀ of a given rank too."""

    rank: Annotated[int, AT_LEAST_ONE] | None = None
    max_iter: Annotated[int, AT_LEAST_ONE] = 20000
    check_every: Annotated[int, AT_LEAST_ONE] = 50
    stationary_tol: Annotated[float, PROPER_FRACTION] = 1e-6

    def __post_init__(self) -> None:
        check_ranges(ProjectedGdOptions, self)


@dataclass(frozen=True, kw_only=True)
class BackwardEliminationOptions:
    """Supports for trainer.nonzeros: weights go one after another, the cheapest first."""

    ridge: Annotated[float, PROPER_FRACTION] = 1e-4

    def __post_init__(self) -> None:
        check_ranges(BackwardEliminationOptions, self)


@dataclass(frozen=True, kw_only=True)
class SwapsOptions(BackwardEliminationOptions):
    """Supports for trainer.nonzeros that no exchange of two weights of a row improves."""

    max_iter: Annotated[int, NON_NEGATIVE] = 1000

    def __post_init__(self) -> None:
        check_ranges(SwapsOptions, self)


@dataclass(frozen=True, kw_only=True)
class TopKOptions:
    """Supports for trainer.nonzeros by ADMM: the largest weights in place of soft thresholds."""

    max_iter: Annotated[int, AT_LEAST_ONE] = 300
    rho: Annotated[float, POSITIVE] = 0.1
    growth: Annotated[float, Range(1, 10, low_open=True)] = 1.1

    def __post_init__(self) -> None:
        check_ranges(TopKOptions, self)


@dataclass(frozen=True, kw_only=True)
class RelaxedOptions:
    """Supports for trainer.nonzeros from the l1 penalty, refitted without shrinkage."""

    bisections: Annotated[int, AT_LEAST_ONE] = 30
    max_iter: Annotated[int, AT_LEAST_ONE] = 200

    def __post_init__(self) -> None:
        check_ranges(RelaxedOptions, self)
