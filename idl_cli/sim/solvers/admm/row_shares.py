"""ADMM on rows split over the processes of a group, dealt anew after every phase.

Rows are independent, so a phase (iterations, or a polish) needs no communication. Between phases
the processes put their rows together, have all of them judged, and deal out those that are left:
by the size of their supports, since a row's polish costs about its cube. Each process keeps its
factorisation and its penalty ρ throughout.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, Progress
from idl_cli.sim.solvers.admm.iterate import Iterate
from idl_cli.sim.solvers.admm.phases import ADMMRun
from idl_cli.sim.solvers.options import AdmmOptions
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.stopwatch import Stopwatch


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


class SharedRun:
    """ADMM on the rows of a problem that every process of the monitor's group holds.

    Args:
        problem: the same in every process.
        options: of the solver.
        watch: counts the phases, ``waiting`` for other processes and ``gather``.
        scaled: the problem in unit-diagonal coordinates.
        start: where to go on from; None for all zero.
    """

    def __init__(
        self,
        problem: RowRegression,
        options: AdmmOptions,
        watch: Stopwatch,
        scaled: ScaledProblem,
        start: Iterate | None,
    ) -> None:
        self._problem = problem
        self._options = options
        self._watch = watch
        self._scaled = scaled
        self._iterate = Iterate.start(problem, options.rho) if start is None else start
        self._left = torch.arange(problem.rows, device=problem.cross.device)

    @property
    def weights(self) -> Tensor:
        """The best known of all rows (rows, D) float64, the same in every process."""
        return self._iterate.weights

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        return self._iterate.iteration

    @property
    def exhausted(self) -> bool:
        """Whether no phase is left."""
        return self._iterate.exhausts(self._options)

    def look(self, monitor: Monitor) -> Progress:
        """Have the weights judged; which rows are solved is what the first process sees."""
        progress = monitor(self.weights, iteration=self.iteration)
        verdict = torch.cat([progress.solved, progress.solved.new_tensor([progress.should_stop])])
        verdict = verdict.to(torch.uint8)
        monitor.group.broadcast_(verdict)
        solved = verdict[:-1].bool()
        self._left = (~solved).nonzero().squeeze(1)
        return replace(progress, solved=solved, should_stop=bool(verdict[-1]))

    def advance(self, monitor: Monitor) -> Progress:
        """Perform the next phase, each process on its share of the rows that are left."""
        group, iterate = monitor.group, self._iterate
        shares = _next_shares(iterate, self._left, group.size)
        mine = shares[group.rank]
        run = ADMMRun(
            self._problem.select(mine),
            self._options,
            self._watch,
            self._scaled.select(mine),
            iterate.select(mine),
        )
        if len(mine):
            run.advance(monitor.share(mine))
        with self._watch.time("waiting"):
            group.barrier()
        with self._watch.time("gather"):
            self._iterate = _together(iterate, run.iterate, shares, group)
        progress = self.look(monitor)
        if not (progress.should_stop or self.exhausted):
            monitor.checkpoint(self._iterate.tensors())
        return progress


def _next_shares(iterate: Iterate, left: Tensor, size: int) -> list[Tensor]:
    """Who does which of the rows that are left; while a polish lasts, of those it has not tried."""
    untried = left[iterate.untried.to(left.device)[left]]
    rows = untried if len(untried) else left
    return deal(rows, (iterate.weights[rows] != 0).sum(dim=1), size)


def _together(before: Iterate, mine: Iterate, shares: list[Tensor], group: Group) -> Iterate:
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
