"""Rows polished to full precision, in threads, with the best point of every row kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.prox import project_rows_weighted_l1_
from idl_cli.sim.regression.solver import Monitor, Progress
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem

_BLOCK = 16
_BLOCK_SETTLED = 128
"""Rows between looks at the monitor: a look costs as much as several rows that are nearly done."""
_TIE = 8 * torch.finfo(torch.float64).eps


class Incumbent:
    """The incumbents: the best points known of all rows, in scaled coordinates; improves only.

    Args:
        problem: gives penalty and budget.
        scaled: the same problem in unit-diagonal coordinates.
        start: (rows, D), feasible.
    """

    def __init__(self, problem: RowRegression, scaled: ScaledProblem, start: Tensor) -> None:
        self._problem = problem
        self._scaled = scaled
        self.points = self._feasible(start)
        self._values = self._objective(self.points, slice(None))
        self.passes = torch.zeros(problem.rows, dtype=torch.long)

    @property
    def weights(self) -> Tensor:
        """The points as weights (rows, D) float64."""
        return self._scaled.to_weights(self.points)

    def offer(self, points: Tensor, rows: Tensor, *, ties: bool = False) -> None:
        """Take over the rows (indices) whose offered points have a lower objective.

        Args:
            points: (len(rows), D), feasible.
            rows: indices.
            ties: take over points too whose objective is the same to rounding. Near the optimum
                the objective cannot tell a polished point from its start; the gradient can.
        """
        points = self._feasible(points)
        values = self._objective(points, rows)
        present = self._values[rows]
        better = values < present + (_TIE * present.abs() if ties else 0.0)
        self.points[rows[better]] = points[better]
        self._values[rows[better]] = values[better]

    def polish(
        self,
        start: Tensor,
        rows: Tensor,
        monitor: Monitor,
        *,
        iteration: int,
        max_passes: int,
        tried: Callable[[Tensor], None] | None = None,
        settle_first: bool = False,
    ) -> Progress:
        """Polish some rows in blocks, each row in one thread, and report after every block.

        Small factorisations do not gain from threads inside and suffer where cores are shared:
        rows are spread over as many threads as torch may use, each of them single-threaded.

        Args:
            start: (len(rows), D), feasible; the present points compete with it.
            rows: indices.
            monitor: of the common loop.
            iteration: the solver's own count, for the history.
            max_passes: factorisations a row at most.
            tried: told the rows (indices) of every block that has been polished.
            settle_first: see ``polish_row``.
        """
        start = start.to(self.points)

        def work(index: int) -> Tensor:
            row = int(rows[index])
            point, passes = polish_row(
                self._problem,
                self._scaled,
                row,
                start[index],
                max_passes=max_passes,
                settle_first=settle_first,
            )
            self.passes[row] += passes
            return point

        with single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
            size = _BLOCK_SETTLED if settle_first else _BLOCK
            for first in range(0, len(rows), size):
                block = range(first, min(first + size, len(rows)))
                polished = rows[block.start : block.stop]
                self.offer(torch.stack(list(pool.map(work, block))), polished, ties=True)
                if tried is not None:
                    tried(polished)
                progress = monitor(self.weights, iteration=iteration)
                if progress.should_stop:
                    break
        return progress

    def _feasible(self, points: Tensor) -> Tensor:
        """A float64 copy inside the ball: float32 overshoots it, and would look better for it."""
        points = points.to(self._scaled.cross, copy=True)
        budget = self._problem.budget
        if budget is not None:
            leading = self._scaled.cost[: budget.count]
            project_rows_weighted_l1_(points[:, : budget.count], leading, budget.radius)
        return points

    def _objective(self, points: Tensor, rows: Tensor | slice) -> Tensor:
        quadratic = 0.5 * self._scaled.multiply(points) - self._scaled.cross[rows]
        return (quadratic * points).sum(dim=1) + self._problem.penalties[rows] * (
            points.abs() @ self._scaled.cost
        )


@contextmanager
def single_threaded() -> Iterator[int]:
    """One thread for each of torch's operations; gives the number that it may use otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
