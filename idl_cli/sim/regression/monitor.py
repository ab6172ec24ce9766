"""The monitor of the common loop: judges weights on a solver's request, whole or by shares.

It has history, clock and best point, and writes the checkpoints that a solver offers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.checkpointing import Checkpointing, marked, restored
from idl_cli.sim.regression.duality_gap import RowGaps, ratio, row_gaps
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Progress, SolverResult


@dataclass(frozen=True)
class HistoryEntry:
    """Where a solve stood.

    Attributes:
        seconds: since the solve began, judging included.
        iterations: in the solver's own unit.
        relative_gap: Σ gaps / Σ objectives.
        objective: Σ objectives.
        rows_solved: number of rows within the tolerance.
    """

    seconds: float
    iterations: int
    relative_gap: float
    objective: float
    rows_solved: int


class GapMonitor:
    """The monitor that goes by duality gaps; see :class:`idl_cli.sim.regression.solver.Monitor`.

    Args:
        problem: whose weights are judged.
        tol: relative tolerance of every row.
        shares: what each row counts for in sums over rows (rows,); None for 1 each.
        max_time: seconds after which solvers are told to stop; None for no limit.
        progress: called with every history entry.
        group: of processes that solve the problem together; None for this one alone.
        checkpointing: how the iterate is written; None for not at all.
    """

    def __init__(
        self,
        problem: RowRegression,
        tol: float,
        *,
        shares: Tensor | None = None,
        max_time: float | None = None,
        progress: Callable[[HistoryEntry], None] | None = None,
        group: Group | None = None,
        checkpointing: Checkpointing | None = None,
    ) -> None:
        self._problem = problem
        self._tol = tol
        self._shares = torch.ones_like(problem.target_square) if shares is None else shares
        self._max_time = max_time
        self._progress = progress
        self._group = Group.single() if group is None else group
        self._checkpointing = Checkpointing() if checkpointing is None else checkpointing
        self._start = self._written_at = time.perf_counter()
        self._own = problem.rows
        self._rows = round(float(problem.partition.total(torch.tensor([float(problem.rows)]))))
        self._best: tuple[float, Tensor] | None = None
        self._latest: RowGaps | None = None
        self.history: list[HistoryEntry] = []

    @property
    def group(self) -> Group:
        """The processes that solve the problem together."""
        return self._group

    def elapsed(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self._start

    def time_is_up(self) -> bool:
        """Whether the limit has passed."""
        return self._max_time is not None and self.elapsed() >= self._max_time

    def seconds_left(self) -> float | None:
        """Time until the limit; None for no limit."""
        return None if self._max_time is None else max(self._max_time - self.elapsed(), 0.0)

    def __call__(self, weights: Tensor, *, iteration: int | None = None) -> Progress:
        """Judge weights of all rows."""
        weights = weights.to(self._problem.cross)
        self._latest = row_gaps(self._problem, weights, tol=self._tol)
        entry = self._record(iteration)
        objective = entry.objective
        if math.isfinite(objective) and (self._best is None or objective < self._best[0]):
            self._best = (objective, weights.clone())
        return self._report(self._latest.solved, entry)

    # -- shares of rows ----------------------------------------------------------------------------

    def share(self, rows: Tensor) -> ShareMonitor:
        """The monitor of some rows (indices)."""
        return ShareMonitor(self, self._problem.select(rows), rows, self._tol)

    def record_share(self, rows: Tensor, gaps: RowGaps, iteration: int | None) -> Progress:
        """Take over what is known of some rows, and report on all.

        Rows that have not been judged yet count with weights zero.
        """
        latest = self._unjudged() if self._latest is None else self._latest
        for whole, part in zip(latest.tensors(), gaps.tensors(), strict=True):
            whole[rows] = part
        self._latest = latest
        return self._report(gaps.solved, self._record(iteration))

    def _unjudged(self) -> RowGaps:
        square = self._problem.target_square
        unknown = torch.zeros_like(square, dtype=torch.bool)
        return RowGaps(
            0.5 * square, 0.5 * square, torch.zeros_like(square), unknown, unknown.clone()
        )

    def _record(self, iteration: int | None) -> HistoryEntry:
        assert self._latest is not None
        gaps = self._latest
        each = (gaps.objective * self._shares, gaps.gap * self._shares, gaps.solved.double())
        sums = torch.stack([part.sum() for part in each])
        objective, gap, solved = self._problem.partition.total(sums).tolist()
        entry = HistoryEntry(
            seconds=self.elapsed(),
            iterations=len(self.history) + 1 if iteration is None else iteration,
            relative_gap=ratio(gap, objective),
            objective=objective,
            rows_solved=int(solved),
        )
        self.history.append(entry)
        if self._progress is not None:
            self._progress(entry)
        return entry

    def _report(self, solved: Tensor, entry: HistoryEntry) -> Progress:
        late = self._max_time is not None and entry.seconds >= self._max_time
        diverged = not math.isfinite(entry.objective)
        done = entry.rows_solved == self._rows if len(solved) == self._own else bool(solved.all())
        return Progress(
            relative_gap=entry.relative_gap,
            objective=entry.objective,
            solved=solved,
            should_stop=self._problem.partition.agreed(done or late or diverged),
        )

    def recipe(self) -> Callable[[RowRegression, Group], GapMonitor]:
        """What makes a monitor like this one elsewhere."""
        left = None if self._max_time is None else max(self._max_time - self.elapsed(), 1e-3)
        found = self._checkpointing.restored
        arrays = None if found is None else {name: t.numpy(force=True) for name, t in found.items()}
        return partial(_monitor_elsewhere, self._tol, left, arrays)

    # -- checkpoints -------------------------------------------------------------------------------

    @property
    def restored(self) -> Mapping[str, Tensor] | None:
        """What to continue from, where it is of this problem; a warning where it is not."""
        return restored(self._problem, self._checkpointing.restored)

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether the solver's iterate should be written now."""
        wanted = self._checkpointing.write is not None
        since = time.perf_counter() - self._written_at
        return wanted and since >= self._checkpointing.every

    def checkpoint(self, iterate: Mapping[str, Tensor]) -> None:
        """Write a solver's iterate when it is time."""
        write = self._checkpointing.write
        if write is None or not self._problem.partition.agreed(self.checkpoint_is_due):
            return
        write(marked(self._problem, iterate))
        self._written_at = time.perf_counter()

    def settle(self, result: SolverResult) -> tuple[Tensor, tuple[str, ...]]:
        """The weights to certify: the solver's, or the best it showed when its own diverged."""
        weights = result.weights.to(self._problem.cross)
        if bool(weights.isfinite().all()) or self._best is None:
            return weights, result.notes
        note = "the weights became NaN or infinite; the best finite point seen is returned"
        return self._best[1], (*result.notes, note)


class ShareMonitor:
    """The monitor of some rows of a problem.

    Args:
        whole: the monitor of all rows.
        problem: of the rows.
        rows: their indices.
        tol: relative tolerance of every row.
    """

    def __init__(self, whole: GapMonitor, problem: RowRegression, rows: Tensor, tol: float) -> None:
        self._whole = whole
        self._problem = problem
        self._rows = rows
        self._tol = tol

    @property
    def group(self) -> Group:
        """This process alone: a share is one process's own."""
        return Group.single()

    def __call__(self, weights: Tensor, *, iteration: int | None = None) -> Progress:
        """Judge the weights of these rows; also stops where a checkpoint of the whole is due."""
        gaps = row_gaps(self._problem, weights.to(self._problem.cross), tol=self._tol)
        progress = self._whole.record_share(self._rows, gaps, iteration)
        if not self._whole.checkpoint_is_due:
            return progress
        return Progress(progress.relative_gap, progress.objective, progress.solved, True)

    def time_is_up(self) -> bool:
        """Whether the limit of the whole has passed."""
        return self._whole.time_is_up()

    def seconds_left(self) -> float | None:
        """Time until the limit of the whole."""
        return self._whole.seconds_left()

    def share(self, rows: Tensor) -> ShareMonitor:
        """The monitor of some of these rows."""
        return self._whole.share(self._rows[rows])

    def recipe(self) -> Callable[[RowRegression, Group], GapMonitor]:
        """What makes a monitor like that of the whole elsewhere."""
        return self._whole.recipe()

    @property
    def restored(self) -> Mapping[str, Tensor] | None:
        """Nothing: checkpoints are of the whole, not of its shares."""
        return None

    def checkpoint(self, iterate: Mapping[str, Tensor]) -> None:
        """Do nothing: checkpoints are of the whole, not of its shares."""


def _monitor_elsewhere(
    tol: float,
    max_time: float | None,
    restored: Mapping[str, NDArray[np.generic]] | None,
    problem: RowRegression,
    group: Group,
) -> GapMonitor:
    tensors = None
    if restored is not None:
        tensors = {name: torch.from_numpy(array) for name, array in restored.items()}
    checkpointing = Checkpointing(restored=tensors)
    return GapMonitor(problem, tol, max_time=max_time, group=group, checkpointing=checkpointing)
