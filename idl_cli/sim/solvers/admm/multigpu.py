"""ADMM over several processes, one a GPU as a rule: the rows split, each solved by ``admm``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from idl_cli.distributed.devices import rank_devices
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, SolverResult, Start
from idl_cli.sim.solvers.admm.admm_solver import ADMMSolver
from idl_cli.sim.solvers.admm.phases import solve_in_phases
from idl_cli.sim.solvers.admm.row_shares import SharedRun
from idl_cli.sim.solvers.admm.spawn import solve_in_spawned_ranks
from idl_cli.sim.solvers.options import AdmmMultigpuOptions
from idl_cli.sim.statistics.block_matrix import WHOLE_FEATURES


@dataclass(frozen=True, kw_only=True)
class ADMMMultiGPUSolver(AdmmMultigpuOptions, ADMMSolver):
    """The same as ``ADMMSolver``, on the processes of a group.

    Rows are independent of each other: they are split over the processes, each of which runs the
    iterations of ``ADMMSolver`` on its own, and are put together after every phase. The answer is
    that of ``ADMMSolver`` to the tolerance, whatever the number of processes.

    In a program that is a single process, those that ``devices`` and ``processes`` ask for are
    started for each solve, and end with it; they begin from zero weights. They import the program's
    main module: a script needs its ``if __name__ == "__main__":``.

    Args:
        devices: GPUs, how many or which; None for all that are visible. On a machine without,
            one process a number.
        processes: processes on the CPU; None to follow ``devices``.
        column_blocks: split the Gram matrix itself by columns, so that no process holds it whole:
            ``auto`` does so beyond 20,000 features, ``always`` and ``never`` as they say. It
            needs a process a GPU from the beginning (the command line, torchrun); iterations then
            send the rows round, and a polish gathers the part of the matrix a row needs.

    Raises:
        ConfigError: there are no such devices.
        RankError: one of the processes started failed.
    """

    def splits_columns(self, features: int, processes: int) -> bool:
        """Whether G is to be split by columns; see ``column_blocks``."""
        if processes == 1 or self.column_blocks == "never":
            return False
        return self.column_blocks == "always" or features > WHOLE_FEATURES

    def _solve(self, problem: RowRegression, monitor: Monitor, start: Start | None) -> SolverResult:
        if problem.is_split:  # all processes take every step of it together
            return super()._solve(problem, monitor, start)
        if monitor.group.size > 1:
            return solve_in_phases(SharedRun, problem, self, monitor, start)
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = rank_devices(self.devices, self.processes, visible=visible)
        if len(devices) > 1:
            return solve_in_spawned_ranks(problem, self, monitor, devices)
        return super()._solve(problem, monitor, start)
