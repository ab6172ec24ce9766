"""The monitor of the common loop: judges weights on a solver's request, whole or by shares.

Keeps history, clock and best point, and hands on what a solver wants kept for a later start.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.sim.regression.duality_gap import RowGaps, ratio, row_gaps
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.row_partition import agreed, own_state, total, whole_state
from idl_cli.sim.regression.solver import Progress, SolverResult

_PROBLEM = "problem"
_SAME = 1e-9
"""Relative difference of two problems' figures that is round-off of their sums."""


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


@dataclass(frozen=True)
class Keeping:
    """How a solve is kept while it lasts, so that a later one can continue.

    Attributes:
        keep: takes named tensors, float64 and bool; they are not changed afterwards. In a group
            every process calls it with the same tensors: one of them should write.
        every: seconds between two calls at least.
        kept: what an earlier solve gave to ``keep``; None to start anew.
    """

    keep: Callable[[Mapping[str, Tensor]], None] | None = None
    every: float = 60.0
    kept: Mapping[str, Tensor] | None = None


class Judge:
    """The monitor; see :class:`idl_cli.sim.regression.solver.Monitor`.

    Args:
        problem: whose weights are judged.
        tol: relative tolerance of every row.
        max_time: seconds after which solvers are told to stop; None for no limit.
        progress: called with every history entry.
        group: of processes that solve the problem together; None for this one alone.
        keeping: how the solve is kept; None for not at all.
    """

    def __init__(
        self,
        problem: RowRegression,
        tol: float,
        *,
        max_time: float | None = None,
        progress: Callable[[HistoryEntry], None] | None = None,
        group: Group | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._problem = problem
        self._tol = tol
        self._max_time = max_time
        self._progress = progress
        self._group = Group.single() if group is None else group
        self._keeping = Keeping() if keeping is None else keeping
        self._start = self._kept_at = time.perf_counter()
        self._own = problem.rows
        self._rows = round(float(total(problem, torch.tensor([float(problem.rows)]))))
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
        return self._answer(self._latest.solved, entry)

    # -- shares of rows ----------------------------------------------------------------------------

    def share(self, rows: Tensor) -> ShareJudge:
        """The judge of some rows (indices)."""
        return ShareJudge(self, self._problem.select(rows), rows, self._tol)

    def judged_share(self, rows: Tensor, gaps: RowGaps, iteration: int | None) -> Progress:
        """Take over what is known of some rows, and report on all.

        Rows that have not been judged yet count with weights zero.
        """
        latest = self._unjudged() if self._latest is None else self._latest
        for whole, part in zip(latest.tensors(), gaps.tensors(), strict=True):
            whole[rows] = part
        self._latest = latest
        return self._answer(gaps.solved, self._record(iteration))

    def _unjudged(self) -> RowGaps:
        square = self._problem.target_square
        unknown = torch.zeros_like(square, dtype=torch.bool)
        return RowGaps(
            0.5 * square, 0.5 * square, torch.zeros_like(square), unknown, unknown.clone()
        )

    def _record(self, iteration: int | None) -> HistoryEntry:
        assert self._latest is not None
        gaps = self._latest
        sums = torch.stack([gaps.objective.sum(), gaps.gap.sum(), gaps.solved.double().sum()])
        objective, gap, solved = total(self._problem, sums).tolist()
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

    def _answer(self, solved: Tensor, entry: HistoryEntry) -> Progress:
        late = self._max_time is not None and entry.seconds >= self._max_time
        diverged = not math.isfinite(entry.objective)
        done = entry.rows_solved == self._rows if len(solved) == self._own else bool(solved.all())
        return Progress(
            relative_gap=entry.relative_gap,
            objective=entry.objective,
            solved=solved,
            should_stop=agreed(self._problem, done or late or diverged),
        )

    def recipe(self) -> Callable[[RowRegression, Group], Judge]:
        """Make a judge like this one elsewhere."""
        left = None if self._max_time is None else max(self._max_time - self.elapsed(), 1e-3)
        kept = self._keeping.kept
        arrays = None if kept is None else {name: t.numpy(force=True) for name, t in kept.items()}
        return partial(_judge_again, self._tol, left, arrays)

    # -- what is kept ------------------------------------------------------------------------------

    @property
    def kept(self) -> Mapping[str, Tensor] | None:
        """What to continue from, where it is of this problem; a warning where it is not."""
        kept = self._keeping.kept
        if kept is None:
            return None
        mine, theirs = self._figures(), kept.get(_PROBLEM)
        if (
            theirs is None
            or theirs.shape != mine.shape
            or not torch.allclose(mine, theirs.to(mine), rtol=_SAME, atol=0)
        ):
            warnings.warn(
                "the iterate that was kept is of another problem (other data, penalty or bound): "
                "the solve starts anew",
                IgnoredOptionWarning,
                stacklevel=3,
            )
            return None
        return own_state(self._problem, kept)

    @property
    def keeping_is_due(self) -> bool:
        """Whether the solver's state should be kept now."""
        wanted = self._keeping.keep is not None
        return wanted and time.perf_counter() - self._kept_at >= self._keeping.every

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Hand on a solver's state when it is time."""
        if self._keeping.keep is None or not agreed(self._problem, self.keeping_is_due):
            return
        whole = whole_state(self._problem, state)
        self._keeping.keep({**whole, _PROBLEM: self._figures()})
        self._kept_at = time.perf_counter()

    def _figures(self) -> Tensor:
        """Numbers that tell one problem from another; sums, so that round-off leaves them."""
        problem, budget = self._problem, self._problem.budget
        sums = (problem.cross.abs(), problem.target_square, problem.penalties)
        mine = torch.stack([each.sum() for each in sums])
        numbers = [
            float(self._rows),
            float(problem.features),
            problem.l2,
            0.0 if budget is None else float(budget.count),
            0.0 if budget is None else budget.radius,
            float(problem.feature_squares.sum()),
            *total(problem, mine).tolist(),
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    def settle(self, result: SolverResult) -> tuple[Tensor, tuple[str, ...]]:
        """The weights to certify: the solver's, or the best it showed when its own diverged."""
        weights = result.weights.to(self._problem.cross)
        if bool(weights.isfinite().all()) or self._best is None:
            return weights, result.notes
        note = "the weights became NaN or infinite; the best finite point seen is returned"
        return self._best[1], (*result.notes, note)


class ShareJudge:
    """The monitor of some rows of a problem.

    Args:
        whole: the judge of all rows.
        problem: of the rows.
        rows: their indices.
        tol: relative tolerance of every row.
    """

    def __init__(self, whole: Judge, problem: RowRegression, rows: Tensor, tol: float) -> None:
        self._whole = whole
        self._problem = problem
        self._rows = rows
        self._tol = tol

    @property
    def group(self) -> Group:
        """This process alone: a share is one process's own."""
        return Group.single()

    def __call__(self, weights: Tensor, *, iteration: int | None = None) -> Progress:
        """Judge the weights of these rows; also stops where the whole is due to be kept."""
        gaps = row_gaps(self._problem, weights.to(self._problem.cross), tol=self._tol)
        progress = self._whole.judged_share(self._rows, gaps, iteration)
        if not self._whole.keeping_is_due:
            return progress
        return Progress(progress.relative_gap, progress.objective, progress.solved, True)

    def time_is_up(self) -> bool:
        """Whether the limit of the whole has passed."""
        return self._whole.time_is_up()

    def seconds_left(self) -> float | None:
        """Time until the limit of the whole."""
        return self._whole.seconds_left()

    def share(self, rows: Tensor) -> ShareJudge:
        """The judge of some of these rows."""
        return self._whole.share(self._rows[rows])

    def recipe(self) -> Callable[[RowRegression, Group], Judge]:
        """Make a judge like that of the whole elsewhere."""
        return self._whole.recipe()

    @property
    def kept(self) -> Mapping[str, Tensor] | None:
        """Nothing: the whole is kept, not its shares."""
        return None

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing: the whole is kept, not its shares."""


def _judge_again(
    tol: float,
    max_time: float | None,
    kept: Mapping[str, NDArray[np.generic]] | None,
    problem: RowRegression,
    group: Group,
) -> Judge:
    tensors = None
    if kept is not None:
        tensors = {name: torch.from_numpy(array) for name, array in kept.items()}
    return Judge(problem, tol, max_time=max_time, group=group, keeping=Keeping(kept=tensors))
