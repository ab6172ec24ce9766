"""Active-set steps that solve one row to full precision, from any start.

A pass guesses signs s on a support J (the row's own, plus features whose correlation exceeds the
penalty), solves the optimality conditions there,

    G_JJ x = h_J − λ s − μ s_A,   μ ≥ 0 from ‖x_A‖₁ ≤ κ,

and moves towards x. Where signs come out as guessed the move is complete. Elsewhere the best of
three points is taken: x with the wrong signs set to zero; the exact minimum of the objective on the
way to x; the solution on what is left when wrong signs are dropped until none is. The objective
never rises. This is feature-sign search (Lee, Battle, Raina, Ng, NeurIPS 2006) with many changes a
step, as in primal-dual active-set, that is semismooth Newton methods (Hintermüller, Ito, Kunisch,
SIAM J. Optim. 13(3), 2002), and with the budget as one more multiplier. A proximal term keeps
every system solvable (duplicated features, fewer samples than features); it does not shift the
answer, only repeats the last step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.prox import project_rows_weighted_l1_
from idl_cli.sim.solvers.line_search import first_crossing, line_minimum
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.support import SupportFactor

_RIDGE = 1e-11
"""Proximal weight relative to the unit diagonal: far below what data resolve, far above eps."""
_TOLERANCE = 1e-10
"""Relative violation of the optimality conditions at which a row is left alone."""
_ROUNDING = 8 * torch.finfo(torch.float64).eps
_ON_BALL = 1e-6
"""A row this close to its budget, relatively, starts as if on it: float32 starts miss by 1e-7."""
_SIGN_CHANGES = 50
"""Moves with one factorisation at most."""

Outcome = Literal["complete", "partial", "stalled"]


def polish_row(
    problem: RowRegression,
    scaled: ScaledProblem,
    row: int,
    start: Tensor,
    *,
    max_passes: int,
    settle_first: bool = False,
) -> tuple[Tensor, int]:
    """Solve a row; the objective of the answer is not above the start's.

    Args:
        problem: gives penalty and budget.
        scaled: the same problem in unit-diagonal coordinates.
        row: its index.
        start: (D,) float64, scaled coordinates; projected on the budget first.
        max_passes: supports tried at most.
        settle_first: solve on the start's own support before any feature may enter. After a change
            of λ most features that violate optimality at the start no longer do so then.

    Returns:
        The point (D,) in scaled coordinates, and the passes used. It is optimal to round-off
        unless the passes were used up or no further descent was found.
    """
    return _RowDescent(problem, scaled, row, start).run(max_passes, settle_first=settle_first)


@dataclass(frozen=True, eq=False)
class _Support:
    """A row on a support J: indices (n,), cost, h, G_JJ, and how many of J have the budget."""

    indices: Tensor
    cost: Tensor
    cross: Tensor
    gram: Tensor
    inside: int

    def select(self, kept: Tensor) -> _Support:
        inside = int((kept < self.inside).sum())
        block = self.gram.index_select(0, kept).index_select(1, kept)
        return _Support(self.indices[kept], self.cost[kept], self.cross[kept], block, inside)


@dataclass(frozen=True, eq=False)
class _Move:
    """A feasible point on a support, with (G (point − present))_J and the objective's change."""

    point: Tensor
    pull: Tensor
    change: float


class _RowDescent:
    """One row: its point, the budget's multiplier, and how many features may enter at once."""

    def __init__(
        self, problem: RowRegression, scaled: ScaledProblem, row: int, start: Tensor
    ) -> None:
        self.gram = scaled.gram
        self.cross = scaled.cross[row]
        self.cost = scaled.cost
        self.l1 = float(problem.penalties[row])
        self.budget: RowBudget | None = problem.budget
        self.count = 0 if problem.budget is None else problem.budget.count
        self.point = self._feasible(start.clone(), self.cost[: self.count])
        self.multiplier: float | None = None
        self.admitted = len(self.cross)
        present = self.point.nonzero().squeeze(1)
        self._columns = present, self.gram.index_select(0, present)
        self._solved: tuple[_Support, SupportFactor] | None = None

    def run(self, max_passes: int, *, settle_first: bool) -> tuple[Tensor, int]:
        refinements = 0
        for passes in range(max_passes):
            correlation = self._correlation()
            signs = self.point.sign()
            limit = self._limit(correlation, signs)
            # |G||v| <= Σ|v| with a unit diagonal: the rounding error of a correlation.
            rounding = _ROUNDING * (self.cross.abs().max() + self.point.abs().sum())
            slack = _TOLERANCE * limit + rounding
            present = signs != 0
            violation = (correlation.abs() - limit).masked_fill(present, -torch.inf)
            entering = violation > slack
            if settle_first and passes == 0 and bool(present.any()):
                entering = torch.zeros_like(entering)
            elif not bool(entering.any()):
                stationary = ((correlation - signs * limit).abs() <= slack)[present].all()
                # A repeated complete step only refines round-off: twice is enough.
                if bool(stationary) or refinements == 2:
                    return self.point, passes
            elif int(entering.sum()) > self.admitted:
                worst = (violation / self.cost).topk(self.admitted).indices
                entering = torch.zeros_like(entering).index_fill_(0, worst, True)
            signs = torch.where(entering, correlation.sign(), signs)
            indices = signs.nonzero().squeeze(1)
            if len(indices) == 0:
                return self.point, passes
            support, factor = self._factored(indices)
            outcome = self._descend(support, factor, signs[indices], correlation[indices])
            # Most rows end with a second look at the support that they were solved on.
            self._solved = None if bool(factor.dropped.any()) else (support, factor)
            if outcome == "stalled":
                return self.point, passes + 1
            refined = outcome == "complete" and not bool(entering.any())
            refinements = refinements + 1 if refined else 0
        return self.point, max_passes

    def _factored(self, indices: Tensor) -> tuple[_Support, SupportFactor]:
        """A support and its factor, those of the last pass where it is the same."""
        if self._solved is not None and torch.equal(indices, self._solved[0].indices):
            return self._solved
        self._columns = indices, self.gram.index_select(0, indices)
        support = _Support(
            indices,
            self.cost[indices],
            self.cross[indices],
            self._columns[1].index_select(1, indices),
            int((indices < self.count).sum()),
        )
        return support, SupportFactor(support.gram, _RIDGE)

    def _correlation(self) -> Tensor:
        """The vector h − G v (D,), from columns of G on the last support: v is zero elsewhere."""
        indices, columns = self._columns
        return torch.addmv(self.cross, columns.T, self.point[indices], alpha=-1.0)

    def _limit(self, correlation: Tensor, signs: Tensor) -> Tensor:
        """What |g_j| may reach (D,): (λ + μ) cost_j inside the budget, λ cost_j outside."""
        limit = self.l1 * self.cost
        if self.budget is None:
            return limit
        cost = self.cost[: self.count]
        size = self.point[: self.count].abs()
        if float(size @ cost) < self.budget.radius * (1 - _ON_BALL):
            self.multiplier = None
            return limit
        if self.multiplier is None:
            excess = (signs * correlation)[: self.count] / cost - self.l1
            self.multiplier = max(float((excess * size).sum() / size.sum()), 0.0)
        limit[: self.count] += self.multiplier * cost
        return limit

    def _descend(
        self, support: _Support, factor: SupportFactor, signs: Tensor, correlation: Tensor
    ) -> Outcome:
        """Move towards the optimum on a support, one factorisation for all sign changes."""
        point = self.point[support.indices]
        for attempt in range(_SIGN_CHANGES):
            target, multiplier = self._target(factor, support, signs, point)
            wrong = target * signs < 0
            if not bool(wrong.any()):
                self._accept(support, target, multiplier)
                self.admitted = len(self.cross)
                return "complete"
            if attempt == 0:
                consistent, pressure = self._consistent(factor, support, signs, wrong, point)
                leap = self._try(consistent, support, point, correlation)
            best = self._step(target, wrong, multiplier, support, point, correlation)
            if attempt == 0 and leap.change < min(best.change, 0.0):
                self._accept(support, leap.point, pressure)
                self.admitted = len(self.cross)
                return "partial"
            if not best.change < 0:
                leaving = wrong & (point == 0)  # entered on the strength of others that entered too
                if not bool(leaving.any()):
                    return "stalled"
                if not factor.has_room(leaving):
                    self.admitted = max(1, min(self.admitted, int(leaving.sum())) // 4)
                    return "partial"
                factor.drop(leaving)
                continue
            point, correlation = best.point, correlation - best.pull
            self._accept(support, point, multiplier)
            self.admitted = min(4 * self.admitted, len(self.cross))
            signs = torch.where(point != 0, point.sign(), signs)
            if not factor.has_room(point == 0):
                return "partial"
            factor.drop(point == 0)
        return "partial"

    def _target(
        self, factor: SupportFactor, support: _Support, signs: Tensor, point: Tensor
    ) -> tuple[Tensor, float]:
        """Optimum for given signs, and its multiplier; proximal to the present point."""
        pressure = (signs * support.cost).masked_fill(factor.dropped, 0.0)
        right = support.cross - self.l1 * pressure + factor.ridge * point
        if self.budget is None or support.inside == 0:
            return factor.solve(right[:, None])[:, 0], 0.0
        face = pressure.clone()
        face[support.inside :] = 0.0
        free, response = factor.solve(torch.stack([right, face], dim=1)).unbind(dim=1)
        excess = float(face @ free) - self.budget.radius
        if excess <= 0:
            return free, 0.0
        multiplier = excess / float(face @ response)
        return free - multiplier * response, multiplier

    def _consistent(
        self,
        factor: SupportFactor,
        support: _Support,
        signs: Tensor,
        wrong: Tensor,
        point: Tensor,
    ) -> tuple[Tensor, float]:
        """Leave out wrong signs and solve again until all come out as guessed."""
        trial = factor.branch()
        while trial.has_room(wrong):
            trial.drop(wrong)
            target, multiplier = self._target(trial, support, signs, point)
            more = target * signs < 0
            if not bool(more.any()):
                return target, multiplier
            wrong = wrong | more
        kept = (~wrong).nonzero().squeeze(1)
        while len(kept):
            part = support.select(kept)
            factor = SupportFactor(part.gram, _RIDGE)
            target, multiplier = self._target(factor, part, signs[kept], point[kept])
            right = target * signs[kept] >= 0
            if bool(right.all()):
                return torch.zeros_like(point).index_copy_(0, kept, target), multiplier
            kept = kept[right]
        return torch.zeros_like(point), 0.0

    def _step(
        self,
        target: Tensor,
        wrong: Tensor,
        multiplier: float,
        support: _Support,
        point: Tensor,
        correlation: Tensor,
    ) -> _Move:
        """The better of the clipped target and the minimum on the way to it."""
        best = self._try(torch.where(wrong, 0.0, target), support, point, correlation)
        direction = target - point
        rate = torch.where(point != 0, point.sign() * direction, direction.abs())
        slope = float(self.l1 * (support.cost @ rate) - correlation @ direction)
        if not slope < 0:
            return best
        curvature = float(direction @ (support.gram @ direction))
        kink = self.l1 * support.cost
        kink[: support.inside] += multiplier * support.cost[: support.inside]
        minimum = line_minimum(point, direction, slope, curvature, kink)
        best = min(
            best, self._try(minimum, support, point, correlation), key=lambda move: move.change
        )
        if not best.change < 0:
            # Projection on the ball spoilt both; up to the first sign change nothing needs it.
            crossed = first_crossing(point, direction)
            if crossed is not None:
                best = self._try(crossed, support, point, correlation)
        return best

    def _try(
        self, candidate: Tensor, support: _Support, point: Tensor, correlation: Tensor
    ) -> _Move:
        feasible = self._feasible(candidate, support.cost[: support.inside])
        step = feasible - point
        pull = support.gram @ step
        shrinkage = support.cost @ (feasible.abs() - point.abs())
        change = float((0.5 * pull - correlation) @ step + self.l1 * shrinkage)
        return _Move(feasible, pull, change)

    def _feasible(self, values: Tensor, cost: Tensor) -> Tensor:
        """Project the leading entries, as many as ``cost`` has, on the ball, in place."""
        if self.budget is not None and len(cost):
            project_rows_weighted_l1_(values[None, : len(cost)], cost, self.budget.radius)
        return values

    def _accept(self, support: _Support, values: Tensor, multiplier: float) -> None:
        self.point = torch.zeros_like(self.cross).index_copy_(0, support.indices, values)
        self.multiplier = multiplier
