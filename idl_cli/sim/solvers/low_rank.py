"""Row regression with the budgeted weights of low rank, A = L Rᵀ, by accelerated block steps.

What is minimised, over L (rows, rank), R (count, rank) and the other weights B:

    F(L, R, B) = ½‖[L Rᵀ  B] S − Z‖²_F + Σ_i λ_i(‖L_i‖₁ + ‖B_i‖₁)  (+ ½ l2 ‖[L Rᵀ  B]‖²_F)
    subject to  ‖L_i‖₁ ≤ κ for every row i of L,  ‖R_k‖₁ ≤ 1 for every column k of R.

Both constraints together give ‖A_i‖₁ ≤ Σ_k |L_ik| ‖R_k‖₁ ≤ κ. The penalty weighs a factor, as the
published low-rank SIM does, because the l1 norm of a product has no prox; with ‖R_k‖₁ ≤ 1 it bounds
that norm, ‖A‖₁ ≤ ‖L‖₁, so that F is never below the objective of the row problem and λ has the same
unit. From A = B = 0, where the two agree, neither ends above its start.

Each block has an exact prox; L, R, B take their steps in turn (Bolte, Sabach, Teboulle, "Proximal
alternating linearized minimization", Math. Program. 146, 2014) from extrapolated points (Pock,
Sabach, "Inertial proximal alternating linearized minimization", SIAM J. Imaging Sci. 9(4), 2016),
and a step that raises F is taken again without extrapolation, which cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.regression.solver import LowRankFactors
from idl_cli.sim.solvers.accelerated import AcceleratedRows, largest_eigenvalue
from idl_cli.sim.solvers.scaling import ScaledProblem

_START = 100
"""Steps of the dense problem that the first directions are taken from: they need no precision."""
_NEGLIGIBLE = 1e-12
"""Squared singular value of the first fit, relative to the largest, that is no direction of it."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A point, in coordinates where every feature has the same second moment.

    Attributes:
        left: L (rows, rank).
        right: Rᵀ (rank, count).
        rest: B (rows, D − count).
        curved: B Guu (rows, D − count). The large products are linear in B, so that extrapolating
            them with it saves forming them again.
        mixed: B Gux (rows, count).
    """

    left: Tensor
    right: Tensor
    rest: Tensor
    curved: Tensor
    mixed: Tensor

    def extrapolated(self, previous: Blocks, inertia: float) -> Blocks:
        """This point, moved on by ``inertia`` times the last step."""
        return Blocks(
            torch.lerp(previous.left, self.left, 1 + inertia),
            torch.lerp(previous.right, self.right, 1 + inertia),
            torch.lerp(previous.rest, self.rest, 1 + inertia),
            torch.lerp(previous.curved, self.curved, 1 + inertia),
            torch.lerp(previous.mixed, self.mixed, 1 + inertia),
        )


class LowRankRows:
    """Block steps on F; deterministic.

    Args:
        problem: with a budget.
        budget: the problem's.
        rank: number of columns of L and R, at least 1.
    """

    def __init__(self, problem: RowRegression, budget: RowBudget, rank: int) -> None:
        count = budget.count
        scaled = ScaledProblem.of(problem)
        self._scaled = scaled
        self._penalties = problem.penalties
        self._left_budget = RowBudget(rank, budget.radius)
        self._right_budget = RowBudget(count, 1.0)
        self._offset = 0.5 * float(problem.target_square.sum())
        self._gram, self._rest_gram = scaled.gram[:count, :count], scaled.gram[count:, count:]
        self._mixed = scaled.gram[:count, count:]
        self._cross, self._rest_cross = scaled.cross[:, :count], scaled.cross[:, count:]
        self._cost, self._rest_cost = scaled.cost[:count], scaled.cost[count:]
        self._lipschitz = largest_eigenvalue(self._gram)
        self._rest_lipschitz = largest_eigenvalue(self._rest_gram)
        self._current = Blocks(
            left=self._cross.new_zeros(problem.rows, rank),
            right=self._directions(problem, rank),
            rest=torch.zeros_like(self._rest_cross),
            curved=torch.zeros_like(self._rest_cross),
            mixed=torch.zeros_like(self._cross),
        )
        self._previous = self._current
        self._momentum = 1.0
        self._value = self._offset

    @property
    def weights(self) -> Tensor:
        """[L Rᵀ  B] in the problem's own coordinates (rows, D) float64."""
        point = self._current
        return self._scaled.to_weights(torch.cat([point.left @ point.right, point.rest], dim=1))

    @property
    def factors(self) -> LowRankFactors:
        """L and R in the problem's own coordinates."""
        return LowRankFactors(self._current.left, (self._current.right * self._cost).T)

    def step(self) -> bool:
        """Move all blocks once.

        Returns:
            False when no step lowers F in floating point; the point is then left as it is.
        """
        following = 0.5 * (1 + (1 + 4 * self._momentum**2) ** 0.5)
        inertia = (self._momentum - 1) / following
        trial = self._sweep(self._current.extrapolated(self._previous, inertia))
        value = self._objective(trial)
        if value > self._value:
            following = 1.0
            trial = self._sweep(self._current)
            value = self._objective(trial)
            if not value < self._value:
                self._momentum = 1.0
                self._previous = self._current
                return False
        self._previous, self._current = self._current, trial
        self._momentum, self._value = following, value
        return True

    def stationarity(self) -> float:
        """How far from a stationary point of F: 0 exactly at one, free of units.

        A block's prox-gradient mapping, relative to the larger of the two terms it is a difference
        of: the pull on the block, and the block in the metric of its step; of the worst block.
        """
        point = self._current
        steps = (
            (point.left, self._left_step(point)),
            (point.right, self._right_step(point)),
            (point.rest, self._rest_step(point)),
        )
        worst = 0.0
        for block, step in steps:
            if block.numel() == 0:
                continue
            mapping = float((step.metric * (block - step.block)).abs().max())
            terms = torch.stack([step.pull.abs().max(), (step.metric * block).abs().max()])
            worst = max(worst, mapping / float(terms.max()) if mapping > 0 else 0.0)
        return worst

    def _sweep(self, start: Blocks) -> Blocks:
        point = replace(start, left=self._left_step(start).block)
        rest = self._rest_step(point).block
        point = replace(point, rest=rest, curved=rest @ self._rest_gram, mixed=rest @ self._mixed.T)
        return replace(point, right=self._right_step(point).block)

    def _left_step(self, point: Blocks) -> _Step:
        curvature = point.right @ self._gram @ point.right.T
        pull = (self._cross - point.mixed) @ point.right.T
        metric = _dominating(curvature)
        # Coordinates in which the metric is the identity, so that the prox stays exact.
        unit = metric.sqrt()
        moved = point.left * unit + (pull - point.left @ curvature) / unit
        block = prox_rows(moved, self._penalties[:, None], self._left_budget, 1.0 / unit) / unit
        return _Step(block, metric, pull)

    def _right_step(self, point: Blocks) -> _Step:
        curvature = point.left.T @ point.left
        pull = point.left.T @ (self._cross - point.mixed)
        metric = self._lipschitz * _dominating(curvature)[:, None]
        moved = point.right + (pull - curvature @ point.right @ self._gram) / metric
        return _Step(prox_rows(moved, 0.0, self._right_budget, self._cost), metric, pull)

    def _rest_step(self, point: Blocks) -> _Step:
        pull = self._rest_cross - point.left @ (point.right @ self._mixed)
        metric = self._rest_cross.new_tensor(self._rest_lipschitz)
        moved = point.rest + (pull - point.curved) / metric
        return _Step(
            prox_rows(moved, self._penalties[:, None] / metric, None, self._rest_cost), metric, pull
        )

    def _objective(self, point: Blocks) -> float:
        product = point.left @ point.right
        gradient = 0.5 * (product @ self._gram) + point.mixed - self._cross
        value = self._offset + float((gradient * product).sum())
        rest = 0.5 * point.curved - self._rest_cross
        value += float((rest * point.rest).sum())
        norms = point.left.abs().sum(dim=1) + point.rest.abs() @ self._rest_cost
        return value + float(self._penalties @ norms)

    def _directions(self, problem: RowRegression, rank: int) -> Tensor:
        """Rᵀ of the closest fit of this rank to what dense rows soon reach, with unit norms.

        The leading directions of that fit, as in reduced-rank regression; where it has fewer, the
        features that correlate most with a target.
        """
        dense = AcceleratedRows(problem)
        for _ in range(_START):
            dense.step()
        fit = self._scaled.from_weights(dense.weights)[:, : self._gram.shape[0]]
        values, vectors = torch.linalg.eigh(fit @ self._gram @ fit.T)
        directions: Tensor = vectors[:, -rank:].T @ fit
        absent = values[-rank:] <= _NEGLIGIBLE * values[-1]
        strongest = (self._cross / self._cost).abs().amax(dim=0).argsort(descending=True)
        directions[absent] = 0.0
        directions[absent.nonzero().squeeze(1), strongest[: int(absent.sum())]] = 1.0
        return directions / (directions.abs() @ self._cost)[:, None]


@dataclass(frozen=True, eq=False)
class _Step:
    """A prox-gradient step of one block.

    Attributes:
        block: where it leads.
        metric: diagonal that dominates the block's curvature, broadcast over the block.
        pull: minus the gradient with the block at zero.
    """

    block: Tensor
    metric: Tensor
    pull: Tensor


def _dominating(curvature: Tensor) -> Tensor:
    """A diagonal matrix >= a positive semi-definite one (Gershgorin), positive throughout."""
    bound = curvature.abs().sum(dim=1)
    return torch.where(bound > 0, bound, 1.0)
