"""An ADMM solve under way, phase by phase: ``admm`` runs it to its end, ranks run it in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, Progress
from idl_cli.sim.solvers.admm.iteration import Splitting, SplittingState
from idl_cli.sim.solvers.block_polish import BlockPolish
from idl_cli.sim.solvers.polish import Answer
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.stopwatch import Stopwatch
from idl_cli.sim.solvers.warm_start import ITERATIONS, pays, rewarmed

if TYPE_CHECKING:
    from idl_cli.sim.solvers.admm.solver import ADMMSolver


@dataclass(frozen=True, eq=False)
class Iterate:
    """Where a solve stands, in terms that any number of processes can continue from.

    The dual variable is not kept: at weights W it is (H − GW)/ρ, as at the optimum.

    Attributes:
        weights: (rows, D) float64, feasible, the best known of every row.
        untried: (rows,) bool, rows that the polish under way has yet to try.
        iteration: iterations so far.
        next_polish: iteration at which to polish; -1 before the warm-up.
        rho: the penalty ρ.
    """

    weights: Tensor
    untried: Tensor
    iteration: int
    next_polish: int
    rho: float

    @classmethod
    def start(cls, problem: RowRegression, rho: float) -> Iterate:
        """The start: all zero."""
        weights = torch.zeros_like(problem.cross)
        return cls(weights, torch.zeros(problem.rows, dtype=torch.bool), 0, -1, rho)

    @classmethod
    def after(cls, weights: Tensor, options: ADMMSolver) -> Iterate:
        """The start at the answer (rows, D) for another penalty: its support is polished first."""
        untried = torch.zeros(len(weights), dtype=torch.bool)
        next_polish = 0 if options.polish_passes else options.max_iter + 1
        return cls(weights, untried, 0, next_polish, options.rho)

    def select(self, rows: Tensor) -> Iterate:
        """Of some rows (indices) only."""
        return Iterate(
            self.weights[rows],
            self.untried[rows.cpu()],
            self.iteration,
            self.next_polish,
            self.rho,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The iterate as named tensors, to be kept in a file."""
        numbers = [float(self.iteration), float(self.next_polish), self.rho]
        return {
            "weights": self.weights,
            "untried": self.untried,
            "numbers": torch.tensor(numbers, dtype=torch.float64),
        }

    @classmethod
    def kept(cls, problem: RowRegression, monitor: Monitor, options: ADMMSolver) -> Iterate | None:
        """What an interrupted solve kept, to be polished now where that was not to polish."""
        found = cls.from_tensors(monitor.kept, problem.cross)
        if found is None or not options.polish_passes or found.next_polish <= options.max_iter:
            return found
        return replace(found, next_polish=found.iteration)

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor] | None, like: Tensor) -> Iterate | None:
        """What :meth:`tensors` gave, on the device of ``like``; None where it is not that."""
        if kept is None or not {"weights", "untried", "numbers"} <= kept.keys():
            return None
        weights, untried, numbers = kept["weights"], kept["untried"], kept["numbers"]
        if weights.shape != like.shape or untried.shape != like.shape[:1] or len(numbers) != 3:
            return None
        iteration, next_polish, rho = numbers.tolist()
        if not (bool(weights.isfinite().all()) and rho > 0):
            return None
        return cls(
            weights.to(like), untried.bool().cpu(), int(iteration), int(next_polish), float(rho)
        )


class ADMMRun:
    """ADMM on some rows: iterations and polish by turns, each a phase.

    Args:
        problem: the rows.
        options: of the solver.
        watch: counts ``factorisation``, ``iterations`` and ``polish``, judging included.
        scaled: the problem in unit-diagonal coordinates; made when None.
        start: where to go on from; None for all zero.
        total: sums over all processes that share ρ with this one; None for no others.
    """

    def __init__(
        self,
        problem: RowRegression,
        options: ADMMSolver,
        watch: Stopwatch,
        *,
        scaled: ScaledProblem | None = None,
        start: Iterate | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._problem = problem
        self._options = options
        self._watch = watch
        self._scaled = ScaledProblem.of(problem) if scaled is None else scaled
        self._total = total
        self._begin(Iterate.start(problem, options.rho) if start is None else start)

    def _begin(self, start: Iterate) -> None:
        self.iteration = start.iteration
        self._next_polish = start.next_polish
        self._untried = start.untried.clone()
        self._rows = torch.arange(self._problem.rows, device=self._scaled.cross.device)
        points = self._scaled.from_weights(start.weights)
        self._answer = Answer(self._problem, self._scaled, points)
        self._state = (
            SplittingState.at(points, self._scaled, start.rho)
            if start.next_polish >= 0
            else SplittingState.zeros(points, start.rho)
        )
        self._splitting: Splitting | None = None

    @property
    def weights(self) -> Tensor:
        """The best known of all rows (rows, D) float64."""
        return self._answer.weights

    @property
    def exhausted(self) -> bool:
        """Whether no phase is left."""
        return self.iteration >= self._options.max_iter and self.iteration < self._next_polish

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
            self._answer.offer(self._state.sparse, self._rows)
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
                self._answer.offer(self._state.sparse, self._rows, ties=ties)
                progress = self.look(monitor)
                if progress.should_stop or self.iteration >= options.max_iter:
                    return progress
                if self.iteration >= self._next_polish:
                    return progress
                monitor.keep(self.iterate.tensors())

    def _polish(self, monitor: Monitor) -> Progress:
        """Polish the rows that are left, those an interrupted polish has tried excepted."""
        if not self._anywhere(self._untried):
            self._untried[self._rows.cpu()] = True
        settle_first = self.iteration == 0 and not self._rewarm(monitor)
        waiting = self._untried.to(self._rows.device)[self._rows]
        rows, starts = self._rows[waiting], self._state.sparse[waiting]

        def tried(block: Tensor) -> None:
            self._untried[block.cpu()] = False
            monitor.keep(self.iterate.tensors())

        blocks = self._scaled.blocks
        polish = (
            self._answer.polish
            if blocks is None
            else BlockPolish(self._problem, self._scaled, blocks, self._answer).run
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

    def _rewarm(self, monitor: Monitor) -> bool:
        """Iterate from the answer for another penalty, where that spares more than it costs."""
        if self._scaled.blocks is not None or self._options.max_iter < ITERATIONS:
            return False
        problem, points = self._problem.select(self._rows), self._state.sparse
        if not pays(problem, points):
            return False
        scaled = self._scaled.select(self._rows)
        self._state = rewarmed(
            problem,
            scaled,
            points,
            self._options.relaxation,
            time_is_up=monitor.time_is_up,
        )
        self._answer.offer(self._state.sparse, self._rows)
        self.iteration += ITERATIONS
        return True

    def _anywhere(self, flags: Tensor) -> bool:
        """Whether any is set, in all processes that share the iterations."""
        found = flags.any().double()
        return bool(found if self._total is None else self._total(found[None]))

    def _drop(self, solved: Tensor) -> None:
        keep = ~solved[self._rows]
        if not bool(keep.all()):
            self._untried[self._rows[~keep].cpu()] = False
            self._rows, self._state = self._rows[keep], self._state.select(keep)

    def _prepared(self) -> Splitting:
        if self._splitting is None:
            with self._watch.time("factorisation"):
                _ = self._scaled.inverse
            self._splitting = Splitting(
                self._problem, self._scaled, self._options.relaxation, total=self._total
            )
            self._splitting.restrict(self._rows)
        return self._splitting
