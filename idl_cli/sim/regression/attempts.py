"""A solver run on one form of a problem after another, within one time limit and one history."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from idl_cli.distributed.group import Group
from idl_cli.errors import ShapeError
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.monitor import GapMonitor, HistoryEntry
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import BaseSolver, LowRankFactors, SolverResult, Start
from idl_cli.sim.regression.units import Units


class Attempts:
    """What the solver is given: problems in units of order one, without shifts.

    Args:
        solver: how to solve.
        tol: relative tolerance of every row.
        max_time: seconds for all attempts together; None for no limit.
        progress: called with every history entry.
        group: the processes that solve together; None for this one alone.
    """

    def __init__(
        self,
        solver: BaseSolver,
        tol: float,
        *,
        max_time: float | None,
        progress: Callable[[HistoryEntry], None] | None,
        group: Group | None,
    ) -> None:
        self.solver = solver
        self._tol = tol
        self._max_time = max_time
        self._progress = progress
        self._group = group
        self._began = time.perf_counter()
        self.history: list[HistoryEntry] = []
        self.iterations = 0
        self.notes: tuple[str, ...] = ()
        self.part_seconds: dict[str, float] = {}

    def elapsed(self) -> float:
        """Seconds since the first could begin."""
        return time.perf_counter() - self._began

    @torch.no_grad()
    def run(
        self,
        problem: RowRegression,
        start: Start | None = None,
        checkpointing: Checkpointing | None = None,
    ) -> SolverResult:
        """Solve a form of the problem; the answer is finite where the solver showed a finite one.

        Args:
            problem: of this process's rows where G is split.
            start: where to begin.
            checkpointing: how the iterate is written while it lasts.

        Raises:
            ShapeError: the solver returned weights of another shape.
        """
        units = Units.of(problem)
        scaled = units.scaled(problem)

        def progress(entry: HistoryEntry) -> None:
            entry = replace(entry, objective=units.objective(entry.objective))
            self.history.append(entry)
            if self._progress is not None:
                self._progress(entry)

        left = None if self._max_time is None else max(self._max_time - self.elapsed(), 1e-9)
        monitor = GapMonitor(
            scaled,
            self._tol,
            shares=units.shares,
            max_time=left,
            progress=progress,
            group=self._group,
            checkpointing=checkpointing,
        )
        if start is None:
            result = self.solver.solve(scaled, monitor)
        else:
            begin = Start(start.weights / units.weight, start.memory)
            result = self.solver.solve_from(scaled, monitor, begin)
        if result.weights.shape != problem.cross.shape:
            raise ShapeError(
                f"{type(self.solver).__name__} returned weights {tuple(result.weights.shape)}, "
                f"the problem has {tuple(problem.cross.shape)} (rows, features)"
            )
        weights, notes = monitor.settle(result)
        if not problem.is_split:
            # A solver that knows nothing of groups ran in each process: the first's is taken.
            monitor.group.broadcast_(weights)
        self.iterations += result.iterations
        self.notes = tuple(dict.fromkeys((*self.notes, *notes)))
        for part, seconds in result.seconds.items():
            self.part_seconds[part] = self.part_seconds.get(part, 0.0) + seconds
        factors = result.factors
        if factors is not None:
            factors = LowRankFactors(units.weights(factors.left), factors.right)
        return replace(result, weights=units.weights(weights), factors=factors)
