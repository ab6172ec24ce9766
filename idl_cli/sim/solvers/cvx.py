"""Every row by a general-purpose conic solver through CVXPY: slow, and independent of the rest."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from idl_cli.errors import MissingExtraError
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.regression.solver import BUDGET, L1, L2, BaseSolver, Monitor, SolverResult
from idl_cli.sim.solvers.cvx_rows import CompiledRow, RowAnswer, RowShape, Vector
from idl_cli.sim.solvers.options import Backend, CvxOptions
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem

# Open, and robust on degenerate rows, where HiGHS and OSQP can stall; they take over in this order.
_OPEN = ("CLARABEL", "SCS")

_POLISH_PASSES = 10
"""An interior-point answer is near the optimum in objective, but its gradient can be far from what
a small λ or a feature in a large unit asks for; a handful of active-set passes settles it."""


@dataclass(frozen=True, kw_only=True)
class CVXSolver(CvxOptions, BaseSolver):
    """One quadratic program a row, from the statistics, by a solver that CVXPY knows.

    The m samples are reduced to the D x D gram matrix in unit-diagonal coordinates; each row is
    divided by ‖z‖, so that a tolerance means the same for all of them. A last prox-gradient step
    and a few active-set passes give exact zeros, a feasible row and its last digits; they never
    raise the objective. Rows are the iterations.

    Args:
        backend: the solver. ``clarabel``, ``scs``, ``osqp`` and ``highs`` are open; where one
            fails on a row another takes over, and a note says so. ``mosek`` and ``gurobi`` need
            their package and a licence and are never used unless named.
        accuracy: tolerance handed to the solver, relative to the row's objective at zero.
        processes: worker processes, started afresh (spawn), each with its share of the threads;
            1 for none, which is quicker below some hundred features. A script that uses more must
            guard its main code with ``if __name__ == "__main__"``.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L1, L2, BUDGET})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve row after row; see :class:`BaseSolver`."""
        backends = _backends(self.backend)
        scaled = ScaledProblem.of(problem)
        count = 0 if problem.budget is None else problem.budget.count
        processes = min(self.processes, problem.rows)
        left = monitor.seconds_left()
        shape = RowShape(
            gram=scaled.gram.numpy(force=True),
            cost=scaled.cost.numpy(force=True),
            penalised=problem.is_penalised,
            budget=count,
            backends=backends,
            accuracy=self.accuracy,
            threads=max(1, (os.cpu_count() or 1) // processes),
            deadline=None if left is None else time.monotonic() + left,
        )
        clean = _Cleaner(problem, scaled)
        weights = torch.zeros_like(problem.cross)
        fell_back: list[str] = []
        failed: list[int] = []
        done = unsolved = 0
        with _answers(shape, _tasks(problem, scaled), processes) as answers:
            for row, answer in enumerate(answers):
                late = monitor.time_is_up()
                if late and answer.value is None:
                    unsolved = int((~monitor(weights, iteration=done).solved[done:]).sum())
                    break
                done += 1
                if answer.value is None:
                    failed.append(row)
                else:
                    weights[row] = clean(answer.value, row)
                if len(answer.statuses) > 1:
                    fell_back.append(f"row {row} ({'; '.join(answer.statuses)})")
                if late or done == problem.rows or done % max(1, problem.rows // 10) == 0:
                    progress = monitor(weights, iteration=done)
                    # All-zero rows may be solved before they are begun.
                    unsolved = int((~progress.solved[done:]).sum())
                    if progress.should_stop:
                        break
        notes = _notes(self.backend, fell_back, failed, unsolved)
        return SolverResult(weights, iterations=done, notes=notes)


def _backends(chosen: Backend) -> tuple[str, ...]:
    """The chosen solver, then the open ones in its place."""
    import cvxpy

    name = chosen.upper()
    installed = cvxpy.installed_solvers()
    if name not in installed:
        package = {"gurobi": "gurobipy", "highs": "highspy"}.get(chosen, chosen)
        raise MissingExtraError(
            f"solver.backend={chosen}: CVXPY does not find it; install it with "
            f"`pip install {package}`, or choose one of "
            f"{', '.join(each.lower() for each in _OPEN if each in installed)}"
        )
    return (name, *(each for each in _OPEN if each != name and each in installed))


Row = tuple[Vector, float, float]


def _tasks(problem: RowRegression, scaled: ScaledProblem) -> list[Row]:
    """h, λ and radius of every row, divided by ‖z‖."""
    radius = 0.0 if problem.budget is None else problem.budget.radius
    unit = _units(problem)
    linear = (scaled.cross / unit[:, None]).numpy(force=True)
    return [
        (linear[row], problem.penalties[row].item() / unit[row].item(), radius / unit[row].item())
        for row in range(problem.rows)
    ]


def _units(problem: RowRegression) -> Tensor:
    norms = problem.target_square.clamp(min=0).sqrt()
    return torch.where(norms > 0, norms, torch.ones_like(norms))


class _Cleaner:
    """Turns a row of an interior-point answer into weights with exact zeros, within the budget."""

    def __init__(self, problem: RowRegression, scaled: ScaledProblem) -> None:
        self._problem = problem
        self._scaled = scaled
        self._units = _units(problem)
        self._step = 1 / torch.linalg.eigvalsh(scaled.gram)[-1].clamp(min=1e-300)

    def __call__(self, value: Vector, row: int) -> Tensor:
        scaled = self._scaled
        v = torch.from_numpy(np.ascontiguousarray(value)).to(scaled.cross) * self._units[row]
        # Feasible first: only then does the step not raise the objective.
        v = self._prox(v, 0.0)
        moved = v - self._step * (scaled.gram @ v - scaled.cross[row])
        v = self._prox(moved, float(self._problem.penalties[row] * self._step))
        v, _ = polish_row(self._problem, scaled, row, v, max_passes=_POLISH_PASSES)
        return scaled.to_weights(v[None])[0]

    def _prox(self, v: Tensor, threshold: float) -> Tensor:
        return prox_rows(v[None], threshold, self._problem.budget, self._scaled.cost)[0]


# -- worker processes ------------------------------------------------------------------------------


@contextmanager
def _answers(shape: RowShape, rows: list[Row], processes: int) -> Iterator[Iterator[RowAnswer]]:
    if processes == 1:
        yield starmap(CompiledRow(shape).solve, rows)
        return
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        chunk = max(1, len(rows) // (10 * processes))
        shares = [rows[start : start + chunk] for start in range(0, len(rows), chunk)]
        # A worker compiles once a share: CVXPY programs do not travel between processes.
        futures = [pool.submit(_solve_share, shape, share) for share in shares]
        yield (answer for future in futures for answer in future.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _solve_share(shape: RowShape, rows: list[Row]) -> list[RowAnswer]:
    compiled = CompiledRow(shape)
    return list(starmap(compiled.solve, rows))


def _notes(backend: str, fell_back: list[str], failed: list[int], unsolved: int) -> tuple[str, ...]:
    notes = []
    if fell_back:
        shown = ", ".join(fell_back[:3]) + (", ..." if len(fell_back) > 3 else "")
        notes.append(f"{backend} failed on {len(fell_back)} rows, others were tried: {shown}")
    if failed:
        notes.append(f"no solver succeeded on rows {failed}: their weights are zero")
    if unsolved:
        notes.append(f"stopped with {unsolved} rows not done: their weights are zero")
    return tuple(notes)
