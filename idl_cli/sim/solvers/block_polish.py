"""Rows polished to full precision where no process holds G whole.

A row is solved on a working set W of features, for which G_WW is brought together: its support and
the features that violate the optimality conditions. Then the conditions of all D features are
looked at again, by a product that all processes share; features that violate them join the row's
support for the next W, until none does. The objective falls with each solve, so that no working set
comes back. Processes solve rows of their own, and take every step together, those without rows too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solver import Monitor, Progress
from idl_cli.sim.solvers.polish import Incumbent, single_threaded
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.violations import violations
from idl_cli.sim.statistics.block_matrix import ColumnBlocks
from idl_cli.sim.statistics.submatrices import submatrices

_ROWS = 64
"""Rows of a process between looks at the monitor: a look costs as much as an iteration."""
_JOINING = 64
"""Features that may join a working set at once; as many as it has, where that is more."""


class BlockPolish:
    """Polishes a process's rows of a problem whose Gram matrix is split.

    Args:
        problem: of this process's rows.
        scaled: the same problem in unit-diagonal coordinates.
        blocks: how columns are split.
        incumbent: takes the polished rows over.
    """

    def __init__(
        self,
        problem: RowRegression,
        scaled: ScaledProblem,
        blocks: ColumnBlocks,
        incumbent: Incumbent,
    ) -> None:
        self._problem = problem
        self._scaled = scaled
        self._blocks = blocks
        self._incumbent = incumbent

    def run(
        self,
        start: Tensor,
        rows: Tensor,
        monitor: Monitor,
        *,
        iteration: int,
        max_passes: int,
        tried: Callable[[Tensor], None],
        settle_first: bool = False,
    ) -> Progress:
        """Polish rows, a block after another, and report after each; see ``Incumbent.polish``."""
        start = start.to(self._incumbent.points)
        for first in range(0, max(self._largest(len(rows)), 1), _ROWS):
            block = rows[first : first + _ROWS]
            points = start[first : first + _ROWS]
            points = self._solved(points, block, max_passes, settle_first=settle_first)
            self._incumbent.offer(points, block, ties=True)
            tried(block)
            progress = monitor(self._incumbent.weights, iteration=iteration)
            if progress.should_stop:
                break
        return progress

    def _solved(
        self, start: Tensor, rows: Tensor, max_passes: int, *, settle_first: bool
    ) -> Tensor:
        """Rows (indices) solved on one working set after another, from ``start`` (len(rows), D)."""
        points = start.clone()
        left = torch.arange(len(rows), device=rows.device)
        passes = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        first = True
        while self._largest(len(left)):
            correlations = self._scaled.cross[rows[left]] - self._scaled.multiply(points[left])
            problem = self._problem.select(rows[left])
            joining = violations(problem, self._scaled, points[left], correlations)
            sets = [
                _working_set(point, excess, settle=first and settle_first)
                for point, excess in zip(points[left], joining, strict=True)
            ]
            wanted = (joining > 0).any(dim=1) | first
            wanted &= (points[left] != 0).any(dim=1) | (joining > 0).any(dim=1)
            left, sets = left[wanted], [each for each, go in zip(sets, wanted, strict=True) if go]
            solved, used = self._on_sets(points[left], rows[left], sets, max_passes)
            passes[left] += used
            self._incumbent.passes[rows[left].cpu()] += used.cpu()
            moved = (solved != points[left]).any(dim=1)
            points[left] = solved
            left = left[(moved | first) & (passes[left] < max_passes)]
            first = False
        return points

    def _on_sets(
        self, points: Tensor, rows: Tensor, sets: list[Tensor], max_passes: int
    ) -> tuple[Tensor, Tensor]:
        """Rows solved on their working sets, and the factorisations used for each."""
        solved, used = points.clone(), torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        features, width = self._problem.gram.shape
        largest = self._largest(max((len(each) for each in sets), default=0))
        # Matrices of several rows at once, as many as take no more memory than a block of G.
        count = max(features * width // max(largest, 1) ** 2, 1)
        for first in range(0, self._largest(len(rows)), count):
            batch = range(first, min(first + count, len(rows)))
            wanted = [sets[index] for index in batch]
            wanted += [rows[:0]] * (count - len(wanted))
            grams = submatrices(self._blocks, self._problem.gram, wanted)

            def work(
                index: int, first: int = first, grams: list[Tensor] = grams
            ) -> tuple[Tensor, int]:
                return self._on_set(
                    points[index], int(rows[index]), sets[index], grams[index - first], max_passes
                )

            with single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
                for index, (point, passes) in zip(batch, pool.map(work, batch), strict=True):
                    solved[index], used[index] = point, passes
        return solved, used

    def _on_set(
        self, point: Tensor, row: int, features: Tensor, gram: Tensor, max_passes: int
    ) -> tuple[Tensor, int]:
        """One row as a problem of some of its features, all others being zero."""
        problem, cost = self._problem, self._scaled.cost
        count = 0 if problem.budget is None else int((features < problem.budget.count).sum())
        part = RowRegression(
            gram,
            problem.cross[row, features][None],
            problem.target_square[row][None],
            float(problem.penalties[row]),
            problem.l2,
            RowBudget(count, problem.budget.radius) if problem.budget and count else None,
        )
        scaled = ScaledProblem.of(part)
        start = scaled.from_weights(point[features] * cost[features])
        solved, passes = polish_row(part, scaled, 0, start, max_passes=max_passes)
        result = torch.zeros_like(point)
        result[features] = scaled.to_weights(solved) / cost[features]
        return result, passes

    def _largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return max(self._blocks.group.gather_objects(number))


def _working_set(point: Tensor, excess: Tensor, *, settle: bool) -> Tensor:
    """A row's support and the features (ascending) that violate its conditions most."""
    support = point != 0
    present = int(support.sum())
    if settle and present:
        return support.nonzero().squeeze(1)
    joining = int((excess > 0).sum())
    worst = excess.topk(min(joining, max(present, _JOINING))).indices
    return support.index_fill(0, worst, True).nonzero().squeeze(1)
