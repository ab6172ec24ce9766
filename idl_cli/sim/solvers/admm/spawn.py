"""Processes started for one solve, from a program that is itself a single process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from idl_cli.distributed.group import Group
from idl_cli.distributed.join import joined
from idl_cli.distributed.launch import launch
from idl_cli.errors import RankError
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solver import BaseSolver, Monitor, SolverResult


@dataclass(frozen=True, eq=False)
class _Task:
    """What one process is started with; arrays travel by value and leave nothing behind.

    Attributes:
        device: of this process, ``cpu`` or ``cuda:N``.
        arrays: the problem's gram, cross and target_square.
        l1: of the problem.
        l2: of the problem.
        budget: of the problem.
        solver: what every process runs.
        monitor_of: makes the monitor.
    """

    device: str
    arrays: tuple[NDArray[np.float64], ...]
    l1: float | NDArray[np.float64]
    l2: float
    budget: RowBudget | None
    solver: BaseSolver
    monitor_of: Callable[[RowRegression, Group], Monitor]


def solve_in_spawned_ranks(
    problem: RowRegression,
    solver: BaseSolver,
    monitor: Monitor,
    devices: tuple[str, ...],
) -> SolverResult:
    """Start a process a device, have them solve the problem, and wait for the answer.

    Args:
        problem: what to solve.
        solver: what every process runs.
        monitor: of the caller, who sees the answer only: the processes have their own.
        devices: ``cpu`` or ``cuda:N``, one a process.

    Raises:
        RankError: a process failed; the message names it and its cause.
    """
    tensors = (problem.gram, problem.cross, problem.target_square)
    task = _Task(
        device=devices[0],
        arrays=tuple(tensor.numpy(force=True) for tensor in tensors),
        l1=problem.l1 if isinstance(problem.l1, float) else problem.l1.numpy(force=True),
        l2=problem.l2,
        budget=problem.budget,
        solver=solver,
        monitor_of=monitor.recipe(),
    )
    tasks = [replace(task, device=device) for device in devices]
    outcome = launch(_solve, tasks, threads=max(torch.get_num_threads() // len(devices), 1))
    if outcome.cause is not None:
        raise RankError(outcome.cause.sentence)
    weights, iterations, seconds = outcome.result
    result = SolverResult(
        torch.from_numpy(weights).to(problem.cross), iterations, seconds=dict(seconds)
    )
    monitor(result.weights, iteration=iterations)
    return result


def _solve(task: _Task) -> tuple[NDArray[np.float64], int, dict[str, float]]:
    """The work of one process."""
    with joined(task.device) as group, torch.no_grad():
        gram, cross, square = (torch.from_numpy(each).to(group.device) for each in task.arrays)
        l1 = task.l1 if isinstance(task.l1, float) else torch.from_numpy(task.l1).to(group.device)
        problem = RowRegression(gram, cross, square, l1, task.l2, task.budget)
        result = task.solver.solve(problem, task.monitor_of(problem, group))
        return result.weights.numpy(force=True), result.iterations, dict(result.seconds)
