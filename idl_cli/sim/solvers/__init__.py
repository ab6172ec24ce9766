"""Solvers of the row problem, one algorithm a file; the names below are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.sim.solvers.admm import ADMMSolver as ADMMSolver
    from idl_cli.sim.solvers.base import BaseSolver as BaseSolver

_HOMES: Final = {
    "ADMMSolver": "idl_cli.sim.solvers.admm",
    "BaseSolver": "idl_cli.sim.solvers.base",
}

__all__ = ["ADMMSolver", "BaseSolver"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli.sim.solvers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
