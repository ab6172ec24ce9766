"""ADMM on rows split over the processes of a group, dealt anew after every phase.

Rows are independent, so a phase (iterations, or a polish) needs no communication. Between phases
the processes put their rows together, have all of them judged, and deal out those that are left:
by the size of their supports, since a row's polish costs about its cube. Each process keeps its
factorisation and its penalty ρ throughout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, SolverResult, Start
from idl_cli.sim.solvers.admm.run import ADMMRun, Iterate
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.stopwatch import Stopwatch

if TYPE_CHECKING:
    from idl_cli.sim.solvers.admm.solver import ADMMSolver


def deal(rows: Tensor, effort: Tensor, size: int) -> list[Tensor]:
    """Deal rows to processes so that each gets as many, and about as much effort.

    Args:
        rows: indices.
        effort: of each of them, in any unit; equal efforts keep the order of the rows.
        size: number of processes.

    Returns:
        Indices for each process: the largest effort first, to and fro, so that a process gets the
        largest and the smallest of two rounds.
    """
    order = rows[effort.argsort(descending=True, stable=True)]
    place = torch.arange(len(order), device=rows.device)
    forth, back = place % size, size - 1 - place % size
    seats = torch.where(place // size % 2 == 0, forth, back)
    return [order[seats == rank] for rank in range(size)]


def solve_in_shares(
    problem: RowRegression,
    options: ADMMSolver,
    monitor: Monitor,
    watch: Stopwatch,
    start: Start | None = None,
) -> SolverResult:
    """Solve a problem that every process of the monitor's group holds, each its share of rows.

    Args:
        problem: the same in every process.
        options: of the iterations.
        monitor: of all rows; it knows the group.
        watch: counts the phases, ``waiting`` for other processes and ``gather``.
        start: the answer of a similar problem; None for all zero.

    Returns:
        The same in every process, but for seconds.
    """
    group = monitor.group
    scaled = ScaledProblem.of(problem, None if start is None else start.memory)
    iterate = Iterate.kept(problem, monitor, options)
    if iterate is None and start is not None:
        iterate = Iterate.after(start.weights, options)
    left = torch.arange(problem.rows, device=problem.cross.device)
    if iterate is None:
        iterate = Iterate.start(problem, options.rho)
    else:
        left, stop = _judge(iterate, monitor)
        if stop:
            return _result(iterate, watch, scaled)
    while True:
        shares = _next_shares(iterate, left, group.size)
        mine = shares[group.rank]
        run = ADMMRun(
            problem.select(mine),
            options,
            watch,
            scaled=scaled.select(mine),
            start=iterate.select(mine),
        )
        if len(mine):
            run.advance(monitor.share(mine))
        with watch.time("waiting"):
            group.barrier()
        with watch.time("gather"):
            iterate = _together(iterate, run.iterate, shares, group, options)
        left, stop = _judge(iterate, monitor)
        if stop or (
            iterate.iteration >= options.max_iter and iterate.iteration < iterate.next_polish
        ):
            return _result(iterate, watch, scaled)
        monitor.keep(iterate.tensors())


def _result(iterate: Iterate, watch: Stopwatch, scaled: ScaledProblem) -> SolverResult:
    return SolverResult(iterate.weights, iterate.iteration, seconds=watch.seconds, memory=scaled)


def _next_shares(iterate: Iterate, left: Tensor, size: int) -> list[Tensor]:
    """Who does which of the rows that are left; while a polish lasts, of those it has not tried."""
    untried = left[iterate.untried.to(left.device)[left]]
    rows = untried if len(untried) else left
    return deal(rows, (iterate.weights[rows] != 0).sum(dim=1), size)


def _judge(iterate: Iterate, monitor: Monitor) -> tuple[Tensor, bool]:
    """Rows that are left, and whether to stop, as the first process sees it."""
    progress = monitor(iterate.weights, iteration=iterate.iteration)
    verdict = torch.cat([progress.solved, progress.solved.new_tensor([progress.should_stop])])
    verdict = verdict.to(torch.uint8)
    monitor.group.broadcast_(verdict)
    return (verdict[:-1] == 0).nonzero().squeeze(1), bool(verdict[-1])


def _together(
    before: Iterate, mine: Iterate, shares: list[Tensor], group: Group, options: ADMMSolver
) -> Iterate:
    """All rows after a phase: what every process did with its own."""
    rows = torch.cat(shares)
    weights, untried = before.weights.clone(), before.untried.clone()
    weights[rows] = group.gather_rows(mine.weights)
    flags = mine.untried.to(device=rows.device, dtype=torch.uint8)
    untried[rows.cpu()] = group.gather_rows(flags).bool().cpu()
    numbers = torch.tensor(
        [[mine.iteration, mine.next_polish]] * bool(len(mine.weights)),
        dtype=torch.float64,
        device=rows.device,
    ).reshape(-1, 2)
    iteration, next_polish = group.gather_rows(numbers).amax(dim=0).tolist()
    if bool(untried.any()):  # somewhere the polish was interrupted: it goes on everywhere
        next_polish = min(next_polish, before.next_polish)
    return replace(
        mine,
        weights=weights,
        untried=untried,
        iteration=int(iteration),
        next_polish=int(next_polish),
    )
