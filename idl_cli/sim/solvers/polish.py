"""Active-set steps to full precision, row by row, from any start: shared by two solvers.

A pass guesses signs s on a support J (the row's own, plus features whose correlation exceeds the
penalty), solves the optimality conditions there,

    G_JJ x = h_J − λ s − μ s_A,   μ ≥ 0 from ‖x_A‖₁ ≤ κ,

and moves towards x. Where signs come out as guessed the move is complete; elsewhere the better of
two points is taken: x with the wrong signs set to zero, or the exact minimum of the objective on
the way to x. The objective never rises, so that a support is not visited twice: this is feature-sign
search (Lee, Battle, Raina, Ng, NeurIPS 2006) with many changes a step, as in primal-dual active-set
methods (Hintermüller, Ito, Kunisch, SIAM J. Optim. 2002), and with the budget as one more
multiplier. A proximal term keeps every system solvable (duplicated features, fewer samples than
features); it does not shift the answer, only repeats the last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from idl_cli.sim.problem import RowBudget, RowRegression
from idl_cli.sim.prox import project_rows_weighted_l1_
from idl_cli.sim.solvers.base import Monitor, Progress
from idl_cli.sim.solvers.line_search import line_minimum
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.support import SupportFactor

_RIDGE = 1e-11
"""Proximal weight relative to the unit diagonal: far below what data resolve, far above eps."""
_TOLERANCE = 1e-10
"""Relative violation of the optimality conditions at which a row is left alone."""
_INNER = 50
"""Sign changes handled by one factorisation at most."""
_BLOCK = 16
"""Rows between looks at the monitor."""
_EPS = 8 * torch.finfo(torch.float64).eps


class Answer:
    """The best points known of all rows of a problem, in scaled coordinates; improves only.

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

    def offer(self, points: Tensor, rows: Tensor) -> None:
        """Take over the rows (indices) whose offered points have a lower objective."""
        points = self._feasible(points)
        values = self._objective(points, rows)
        better = values < self._values[rows]
        self.points[rows[better]] = points[better]
        self._values[rows[better]] = values[better]

    def polish(
        self, start: Tensor, rows: Tensor, monitor: Monitor, *, iteration: int, max_passes: int
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
        """
        start = start.to(self.points)

        def work(index: int) -> Tensor:
            row = int(rows[index])
            descent = _RowDescent(self._problem, self._scaled, row, start[index])
            point, passes = descent.run(max_passes)
            self.passes[row] += passes
            return point

        with _single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(rows), _BLOCK):
                block = range(first, min(first + _BLOCK, len(rows)))
                self.offer(torch.stack(list(pool.map(work, block))), rows[block.start : block.stop])
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
        quadratic = 0.5 * (points @ self._scaled.gram) - self._scaled.cross[rows]
        return (quadratic * points).sum(dim=1) + self._problem.l1 * (
            points.abs() @ self._scaled.cost
        )


@contextmanager
def _single_threaded() -> Iterator[int]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class _RowDescent:
    """One row: its point, the correlations there, and the multiplier of the budget."""

    def __init__(
        self, problem: RowRegression, scaled: ScaledProblem, row: int, start: Tensor
    ) -> None:
        self.gram = scaled.gram
        self.cross = scaled.cross[row]
        self.cost = scaled.cost
        self.l1 = problem.l1
        self.budget: RowBudget | None = problem.budget
        self.count = 0 if problem.budget is None else problem.budget.count
        self.point = self._feasible(start.clone(), self.cost[: self.count])
        self.multiplier: float | None = None
        self.largest_addition = len(self.cross)

    def run(self, max_passes: int) -> tuple[Tensor, int]:
        """Pass until the optimality conditions hold, nothing improves, or the passes are used."""
        settled = 0
        for passes in range(max_passes):
            correlation = torch.addmv(self.cross, self.gram, self.point, alpha=-1.0)
            signs = self.point.sign()
            limit = self._limit(correlation, signs)
            slack = _TOLERANCE * limit + _EPS * (
                self.cross.abs().max() + self.point.abs().sum()
            )
            absent = signs == 0
            violation = (correlation.abs() - limit).masked_fill(~absent, -torch.inf)
            entering = violation > slack
            stationary = bool(((correlation - signs * limit).abs() <= slack)[~absent].all())
            if not bool(entering.any()):
                # A repeated complete step only refines round-off: twice is enough.
                if stationary or settled == 2:
                    return self.point, passes
            if int(entering.sum()) > self.largest_addition:
                worst = (violation / self.cost).topk(self.largest_addition).indices
                entering = torch.zeros_like(entering).index_fill_(0, worst, True)
            signs = torch.where(entering, correlation.sign(), signs)
            support = signs.nonzero().squeeze(1)
            if len(support) == 0:
                return self.point, passes
            outcome = self._descend(support, signs[support], correlation[support])
            if outcome == "stalled":
                return self.point, passes + 1
            settled = settled + 1 if outcome == "complete" and not bool(entering.any()) else 0
        return self.point, max_passes

    def _limit(self, correlation: Tensor, signs: Tensor) -> Tensor:
        """What |g_j| may reach (D,): (λ + μ) cost_j inside the budget, λ cost_j outside."""
        limit = self.l1 * self.cost
        if self.budget is None:
            return limit
        cost = self.cost[: self.count]
        size = self.point[: self.count].abs()
        # Starts in float32 lie on the ball to about 1e-7.
        if float(size @ cost) < self.budget.radius * (1 - 1e-6):
            self.multiplier = None
            return limit
        if self.multiplier is None:
            pull = (signs * correlation)[: self.count] / cost - self.l1
            self.multiplier = max(float((pull * size).sum() / size.sum()), 0.0)
        limit[: self.count] += self.multiplier * cost
        return limit

    def _descend(self, support: Tensor, signs: Tensor, correlation: Tensor) -> str:
        """Move towards the optimum on a support, one factorisation for all sign changes."""
        factor = SupportFactor(self.gram, support, _RIDGE)
        cost = self.cost[support]
        cross = self.cross[support]
        inside = int((support < self.count).sum())
        point = self.point[support]
        for attempt in range(_INNER):
            target, multiplier = self._target(factor, signs, cost, cross, point, inside)
            direction = target - point
            wrong = target * signs < 0
            pull = self._pull(support, direction)
            if not bool(wrong.any()):
                self._move(support, target, multiplier)
                self.largest_addition = len(self.cross)
                return "complete"
            candidates = [torch.where(wrong, 0.0, target)]
            slope, curvature = self._along(point, direction, correlation, pull, cost)
            kink = self.l1 * cost
            kink[:inside] += multiplier * cost[:inside]
            minimum = line_minimum(point, direction, slope, curvature, kink)
            if minimum is not None:
                candidates.append(minimum)
                first = self._first_crossing(point, direction)
                if first is not None:
                    candidates.append(first)
            best = self._best(candidates, support, point, correlation, cost)
            if attempt == 0:
                consistent, pressure = self._consistent(support, signs, wrong, point)
                better = self._best([consistent], support, point, correlation, cost)
                if better is not None and (best is None or better[2] < best[2]):
                    self._move(support, better[0], pressure)
                    self.largest_addition = len(self.cross)
                    return "consistent"
            if best is None:
                entered_wrongly = wrong & (point == 0)
                if not bool(entered_wrongly.any()):
                    return "stalled"
                if not factor.has_room(entered_wrongly):
                    admitted = min(self.largest_addition, int(entered_wrongly.sum()))
                    self.largest_addition = max(1, admitted // 4)
                    return "refactor"
                factor.drop(entered_wrongly)
                continue
            point, pulled, _ = best
            correlation = correlation - pulled
            self._move(support, point, multiplier)
            self.largest_addition = min(4 * self.largest_addition, len(self.cross))
            signs = torch.where(point != 0, point.sign(), signs)
            gone = point == 0
            if not factor.has_room(gone):
                return "refactor"
            factor.drop(gone)
        return "refactor"

    def _consistent(
        self, support: Tensor, signs: Tensor, wrong: Tensor, point: Tensor
    ) -> tuple[Tensor, float]:
        """Leave out wrong signs and solve again until all come out as guessed."""
        kept = (~wrong).nonzero().squeeze(1)
        result = torch.zeros_like(point)
        while len(kept):
            part = support[kept]
            factor = SupportFactor(self.gram, part, _RIDGE)
            inside = int((part < self.count).sum())
            target, multiplier = self._target(
                factor, signs[kept], self.cost[part], self.cross[part], point[kept], inside
            )
            flipped = target * signs[kept] < 0
            if not bool(flipped.any()):
                return result.index_copy_(0, kept, target), multiplier
            kept = kept[~flipped]
        return result, 0.0

    def _target(
        self,
        factor: SupportFactor,
        signs: Tensor,
        cost: Tensor,
        cross: Tensor,
        point: Tensor,
        inside: int,
    ) -> tuple[Tensor, float]:
        """Optimum for given signs, and its multiplier; proximal to the present point."""
        pressure = (signs * cost).masked_fill(factor.dropped, 0.0)
        right = cross - self.l1 * pressure + factor.ridge * point
        if self.budget is None or inside == 0:
            return factor.solve(right[:, None])[:, 0], 0.0
        face = pressure.clone()
        face[inside:] = 0.0
        free, response = factor.solve(torch.stack([right, face], dim=1)).unbind(dim=1)
        excess = float(face @ free) - self.budget.radius
        if excess <= 0:
            return free, 0.0
        multiplier = excess / float(face @ response)
        return free - multiplier * response, multiplier

    def _best(
        self,
        candidates: list[Tensor],
        support: Tensor,
        point: Tensor,
        correlation: Tensor,
        cost: Tensor,
    ) -> tuple[Tensor, Tensor, float] | None:
        """The candidate of lowest objective below the present one, with G times the move."""
        chosen, lowest = None, 0.0
        inside = int((support < self.count).sum())
        for index, candidate in enumerate(candidates):
            if index == 2 and chosen is not None:
                break  # the first sign change is the fallback that always descends
            feasible = self._feasible(candidate, cost[:inside])
            move = feasible - point
            pulled = self._pull(support, move)
            change = float(
                (0.5 * pulled - correlation) @ move
                + self.l1 * (cost @ (feasible.abs() - point.abs()))
            )
            if change < lowest:
                chosen, lowest = (feasible, pulled, change), change
        return chosen

    def _along(
        self, point: Tensor, direction: Tensor, correlation: Tensor, pull: Tensor, cost: Tensor
    ) -> tuple[float, float]:
        """Right derivative and curvature of the objective along a direction."""
        rate = torch.where(point != 0, point.sign() * direction, direction.abs())
        slope = self.l1 * (cost @ rate) - correlation @ direction
        return float(slope), float(direction @ pull)

    @staticmethod
    def _first_crossing(point: Tensor, direction: Tensor) -> Tensor | None:
        times = torch.where(point * direction < 0, -point / direction, torch.inf)
        time, index = times.min(dim=0)
        if not bool(time < 1):
            return None
        crossed = point + time * direction
        crossed[index] = 0.0
        return crossed

    def _pull(self, support: Tensor, move: Tensor) -> Tensor:
        """(G move)_J for a move on the support J."""
        full = torch.zeros_like(self.cross).index_copy_(0, support, move)
        return (self.gram @ full)[support]

    def _feasible(self, values: Tensor, cost: Tensor) -> Tensor:
        """Project the leading entries, as many as ``cost`` has, on the weighted l1 ball."""
        if self.budget is not None and len(cost):
            project_rows_weighted_l1_(values[None, : len(cost)], cost, self.budget.radius)
        return values

    def _move(self, support: Tensor, values: Tensor, multiplier: float) -> None:
        self.point = torch.zeros_like(self.cross).index_copy_(0, support, values)
        self.multiplier = multiplier
