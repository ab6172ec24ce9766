"""Solvers of the row problem, one algorithm a file; the names below are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.sim.regression.solver import BaseSolver as BaseSolver
    from idl_cli.sim.solvers.active_set import ActiveSetSolver as ActiveSetSolver
    from idl_cli.sim.solvers.admm.admm_solver import ADMMSolver as ADMMSolver
    from idl_cli.sim.solvers.admm.multigpu import ADMMMultiGPUSolver as ADMMMultiGPUSolver
    from idl_cli.sim.solvers.cvx import CVXSolver as CVXSolver
    from idl_cli.sim.solvers.least_squares import LeastSquareSolver as LeastSquareSolver
    from idl_cli.sim.solvers.projected_gd import (
        ProjectedGDLowRankSolver as ProjectedGDLowRankSolver,
    )
    from idl_cli.sim.solvers.supports.backward_elimination import (
        BackwardEliminationSolver as BackwardEliminationSolver,
    )
    from idl_cli.sim.solvers.supports.relaxed import RelaxedSolver as RelaxedSolver
    from idl_cli.sim.solvers.supports.swaps import SwapSolver as SwapSolver
    from idl_cli.sim.solvers.supports.top_k import TopKSolver as TopKSolver

_HOMES: Final = {
    "ADMMMultiGPUSolver": "idl_cli.sim.solvers.admm.multigpu",
    "ADMMSolver": "idl_cli.sim.solvers.admm.admm_solver",
    "ActiveSetSolver": "idl_cli.sim.solvers.active_set",
    "BackwardEliminationSolver": "idl_cli.sim.solvers.supports.backward_elimination",
    "BaseSolver": "idl_cli.sim.regression.solver",
    "CVXSolver": "idl_cli.sim.solvers.cvx",
    "LeastSquareSolver": "idl_cli.sim.solvers.least_squares",
    "ProjectedGDLowRankSolver": "idl_cli.sim.solvers.projected_gd",
    "RelaxedSolver": "idl_cli.sim.solvers.supports.relaxed",
    "SwapSolver": "idl_cli.sim.solvers.supports.swaps",
    "TopKSolver": "idl_cli.sim.solvers.supports.top_k",
}

__all__ = [
    "ADMMMultiGPUSolver",
    "ADMMSolver",
    "ActiveSetSolver",
    "BackwardEliminationSolver",
    "BaseSolver",
    "CVXSolver",
    "LeastSquareSolver",
    "ProjectedGDLowRankSolver",
    "RelaxedSolver",
    "SwapSolver",
    "TopKSolver",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli.sim.solvers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
