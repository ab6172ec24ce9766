"""ADMM over several processes, one a GPU as a rule: the rows split, each solved by ``admm``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from idl_cli.distributed.devices import rank_devices
from idl_cli.errors import ArgumentError
from idl_cli.sim.problem import RowRegression
from idl_cli.sim.solvers.admm import ADMMSolver
from idl_cli.sim.solvers.base import Monitor, SolverResult
from idl_cli.sim.solvers.own_ranks import solve_on_own_ranks
from idl_cli.sim.solvers.row_shares import solve_in_shares
from idl_cli.sim.solvers.stopwatch import Stopwatch


@dataclass(frozen=True, kw_only=True)
class ADMMMultiGPUSolver(ADMMSolver):
    """The same as ``ADMMSolver``, on the processes of a group.

    Rows are independent of each other: they are split over the processes, each of which runs the
    iterations of ``ADMMSolver`` on its own, and are put together after every phase. The answer is
    that of ``ADMMSolver`` to the tolerance, whatever the number of processes.

    Args:
        devices: GPUs, how many or which; None for all that are visible. On a machine without,
            one process a number.
        processes: processes on the CPU; None to follow ``devices``.
    """

    devices: int | Sequence[int] | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.processes is not None and self.processes < 1:
            raise ArgumentError(f"ADMMMultiGPUSolver: processes={self.processes} must be >= 1")

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve with all processes of the monitor's group; see :class:`BaseSolver`.

        In a program that is a single process, those that ``devices`` and ``processes`` ask for are
        started for this solve, and end with it. They import the program's main module: a script
        needs its ``if __name__ == "__main__":``.

        Raises:
            ConfigError: there are no such devices.
            RankError: one of the processes started failed.
        """
        if monitor.group.size > 1:
            return solve_in_shares(problem, self, monitor, Stopwatch(problem.cross.device))
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = rank_devices(self.devices, self.processes, visible=visible)
        if len(devices) == 1:
            return super().solve(problem, monitor)
        return solve_on_own_ranks(problem, self, monitor, devices)
