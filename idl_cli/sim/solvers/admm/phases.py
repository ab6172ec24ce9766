"""An ADMM solve, phase by phase: ``admm`` runs it to its end, ranks share each phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, Progress, SolverResult, Start
from idl_cli.sim.solvers.admm.iterate import Iterate
from idl_cli.sim.solvers.admm.iteration import Splitting, SplittingState
from idl_cli.sim.solvers.block_polish import BlockPolish
from idl_cli.sim.solvers.options import AdmmOptions
from idl_cli.sim.solvers.polish import Incumbent
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.stopwatch import Stopwatch
from idl_cli.sim.solvers.warm_start import ITERATIONS, warm_start_pays, warm_started


class PhasedRun(Protocol):
    """A solve that goes by phases; the monitor looks at it between them."""

    @property
    def weights(self) -> Tensor:
        """The best known of all rows (rows, D) float64."""
        ...

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no phase is left."""
        ...

    def look(self, monitor: Monitor) -> Progress:
        """Have the present weights judged, and drop the rows that are solved."""
        ...

    def advance(self, monitor: Monitor) -> Progress:
        """Perform the next phase, and have the weights judged."""
        ...


def solve_in_phases(
    kind: Callable[
        [RowRegression, AdmmOptions, Stopwatch, ScaledProblem, Iterate | None], PhasedRun
    ],
    problem: RowRegression,
    options: AdmmOptions,
    monitor: Monitor,
    start: Start | None,
) -> SolverResult:
    """Perform phases until the monitor says stop.

    Args:
        kind: makes the run: of this process, or of several.
        problem: what to solve.
        options: of the solver.
        monitor: of the problem.
        start: the answer to a similar problem; None for all zero.
    """
    watch = Stopwatch(problem.cross.device)
    scaled = ScaledProblem.of(problem, None if start is None else start.memory)
    begin = Iterate.begin(problem, monitor, options, start)
    run = kind(problem, options, watch, scaled, begin)
    progress = run.advance(monitor) if begin is None else run.look(monitor)
    while not (progress.should_stop or run.exhausted):
        progress = run.advance(monitor)
    return SolverResult(run.weights, run.iteration, seconds=watch.seconds, memory=scaled)


class ADMMRun:
    """ADMM on some rows: iterations and polish by turns, each a phase.

    Args:
        problem: the rows.
        options: of the solver.
        watch: counts ``factorisation``, ``iterations`` and ``polish``, judging included.
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
        start = Iterate.start(problem, options.rho) if start is None else start
        self.iteration = start.iteration
        self._next_polish = start.next_polish
        self._untried = start.untried.clone()
        self._rows = torch.arange(self._problem.rows, device=self._scaled.cross.device)
        points = self._scaled.from_weights(start.weights)
        self._incumbent = Incumbent(self._problem, self._scaled, points)
        self._state = (
            SplittingState.at(points, self._scaled, start.rho)
            if start.next_polish >= 0
            else SplittingState.zeros(points, start.rho)
        )
        self._splitting: Splitting | None = None

    @property
    def weights(self) -> Tensor:
        """The best known of all rows (rows, D) float64."""
        return self._incumbent.weights

    @property
    def exhausted(self) -> bool:
        """Whether no phase is left."""
        return self._options.max_iter <= self.iteration < self._next_polish

    @property
    def iterate(self) -> Iterate:
        """Where the solve stands."""
        return Iterate(
            self.weights, self._untried.clone(), self.iteration, self._next_polish, self._state.rho
        )

    def look(self, monitor: Monitor) -> Progress:
        """Have the present weights judged, and drop the rows that are solved."""
        progress = monitor(self.weights, iteration=self.iteration)
        self._drop(progress.solved)
        return progress

    def advance(self, monitor: Monitor) -> Progress:
        """Perform the next phase; it ends early when the monitor says stop."""
        if self._next_polish < 0:
            return self._warm_up(monitor)
        if self.iteration >= self._next_polish:
            with self._watch.time("polish"):
                return self._polish(monitor)
        return self._iterate(monitor)

    def _warm_up(self, monitor: Monitor) -> Progress:
        options, splitting = self._options, self._prepared()
        with self._watch.time("iterations"):
            wanted = min(options.warm_iterations, options.max_iter)
            state = SplittingState.zeros(self._scaled.cross.float(), self._state.rho)
            state = splitting.run(state, wanted, options.adapt_every, time_is_up=monitor.time_is_up)
            self.iteration, self._state = splitting.iterations, state.to(torch.float64)
            self._incumbent.offer(self._state.sparse, self._rows)
            self._next_polish = self.iteration if options.polish_passes else options.max_iter + 1
            return self.look(monitor)

    def _iterate(self, monitor: Monitor) -> Progress:
        options, splitting = self._options, self._prepared()
        with self._watch.time("iterations"):
            while True:
                splitting.restrict(self._rows)
                steps = min(options.check_every, options.max_iter - self.iteration)
                adapt = self.iteration < options.max_iter // 2
                self._state = splitting.run(self._state, steps, options.adapt_every * adapt)
                self.iteration += steps
                # Without polish the last digits come from later iterates, which the objective
                # cannot tell from earlier ones; a polished point must not give way to one.
                ties = options.polish_passes == 0
                self._incumbent.offer(self._state.sparse, self._rows, ties=ties)
                progress = self.look(monitor)
                if progress.should_stop or self.iteration >= options.max_iter:
                    return progress
                if self.iteration >= self._next_polish:
                    return progress
                monitor.checkpoint(self.iterate.tensors())

    def _polish(self, monitor: Monitor) -> Progress:
        """Polish the rows that are left, those an interrupted polish has tried excepted."""
        if not self._anywhere(self._untried):
            self._untried[self._rows.cpu()] = True
        settle_first = self.iteration == 0 and not self._warm_start(monitor)
        waiting = self._untried.to(self._rows.device)[self._rows]
        rows, starts = self._rows[waiting], self._state.sparse[waiting]

        def tried(block: Tensor) -> None:
            self._untried[block.cpu()] = False
            monitor.checkpoint(self.iterate.tensors())

        blocks = self._scaled.blocks
        polish = (
            self._incumbent.polish
            if blocks is None
            else BlockPolish(self._problem, self._scaled, blocks, self._incumbent).run
        )
        progress = polish(
            starts,
            rows,
            monitor,
            iteration=self.iteration,
            max_passes=self._options.polish_passes,
            tried=tried,
            settle_first=settle_first,
        )
        self._drop(progress.solved)
        if not self._anywhere(self._untried):
            self._next_polish = max(2 * self.iteration, self._options.check_every)
        return progress

    def _warm_start(self, monitor: Monitor) -> bool:
        """Iterate from the answer for another penalty, where that spares more than it costs."""
        if self._scaled.blocks is not None or self._options.max_iter < ITERATIONS:
            return False
        problem, points = self._problem.select(self._rows), self._state.sparse
        if not warm_start_pays(problem, points):
            return False
        scaled = self._scaled.select(self._rows)
        self._state = warm_started(
            problem,
            scaled,
            points,
            self._options.relaxation,
            time_is_up=monitor.time_is_up,
        )
        self._incumbent.offer(self._state.sparse, self._rows)
        self.iteration += ITERATIONS
        return True

    def _anywhere(self, flags: Tensor) -> bool:
        """Whether any is set, in all processes that share the iterations."""
        return self._problem.partition.anywhere(bool(flags.any()))

    def _drop(self, solved: Tensor) -> None:
        keep = ~solved[self._rows]
        if not bool(keep.all()):
            self._untried[self._rows[~keep].cpu()] = False
            self._rows, self._state = self._rows[keep], self._state.select(keep)

    def _prepared(self) -> Splitting:
        if self._splitting is None:
            with self._watch.time("factorisation"):
                _ = self._scaled.inverse
            self._splitting = Splitting(self._problem, self._scaled, self._options.relaxation)
            self._splitting.restrict(self._rows)
        return self._splitting
