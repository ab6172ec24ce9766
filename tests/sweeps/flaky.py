"""Plug-in solvers that misbehave until they may succeed; ``install`` makes a package of them.

Sweeps have to survive what their jobs do: raise, run out of memory, be killed, hang.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from idl_cli.errors import ArgumentError
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import L2, BaseSolver, Monitor, SolverResult
from idl_cli.sim.solvers.least_squares import LeastSquareSolver

HEALED = "healed"
HANGING = "hanging"
_DEADLINE = 120  # s; a test that forgets to kill a hanging job ends all the same


@dataclass(frozen=True, kw_only=True)
class RaisingSolver(BaseSolver):
    """Least squares, once the file ``healed`` is in the working directory; an error until then."""

    handles: ClassVar[frozenset[str]] = frozenset({L2})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        if not Path(HEALED).exists():
            self._misbehave()
        return LeastSquareSolver().solve(problem, monitor)

    def _misbehave(self) -> None:
        raise ArgumentError("flaky: not today")


@dataclass(frozen=True, kw_only=True)
class GreedySolver(RaisingSolver):
    """Asks for more memory than there is."""

    def _misbehave(self) -> None:
        torch.empty(1 << 60)


@dataclass(frozen=True, kw_only=True)
class KilledSolver(RaisingSolver):
    """Kills its process."""

    def _misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class HangingSolver(RaisingSolver):
    """Says that it hangs, and hangs."""

    def _misbehave(self) -> None:
        Path(HANGING).touch()
        deadline = time.monotonic() + _DEADLINE
        while time.monotonic() < deadline:
            time.sleep(0.05)


def install(site: Path) -> None:
    """Make a distribution in ``site`` that offers the solvers by their first names."""
    metadata = site / "idl_flaky-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: idl-flaky\nVersion: 1.0\n")
    kinds = ("Raising", "Greedy", "Killed", "Hanging")
    lines = [f"{kind.lower()} = tests.sweeps.flaky:{kind}Solver" for kind in kinds]
    (metadata / "entry_points.txt").write_text("\n".join(["[idl_cli.solvers]", *lines, ""]))
