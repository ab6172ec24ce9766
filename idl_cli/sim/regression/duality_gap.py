"""The duality gap and the KKT residual of every row, as the judge computes them.

Everything follows from G, H and ‖z‖², in float64. With the residual r = z − Sᵀw and its
correlations g = S r = h − Gw, the point θr is dual feasible for θ = min(1, λ/‖g_U‖∞), g_U being the
correlations outside the budget (all of them without one), and

    P(w) − D(θr) = ½(1−θ)²‖r‖² + (λ‖w‖₁ − θ gᵀw) + κ max(θ‖g_X‖∞ − λ, 0)  ≥  P(w) − P*.

This is the textbook gap P − [θ rᵀz − ½θ²‖r‖² − κ max(θ‖g_X‖∞ − λ, 0)] with ‖z‖² cancelled by
algebra instead of by subtraction: a row fitted almost exactly keeps a meaningful gap. The elastic
net is the same problem with G + l2·I. No solver may import this module.

For λ = 0 and for small λ the scaled point is weak or none: ``dual_points`` has others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.regression.dual_points import Point, row_space_gaps
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.prox import prox_rows

_ROUNDING: Final = 8 * torch.finfo(torch.float64).eps
_TRUSTED = 16.0
"""Floors that the rounding error of an objective may take up where a row is at precision."""


@dataclass(frozen=True, eq=False)
class RowGaps:
    """The part of a certificate that is cheap enough to compute during a solve.

    Attributes:
        objective: P(w_i) (rows,).
        gap: (rows,), absolute.
        floor: (rows,), 8 eps (‖z‖² + Σ_j |w_j| √G_jj ‖z‖): what rounding makes of a gap.
        solved: (rows,) bool: gap within tol·P, or within the rounding floor.
        precise: (rows,) bool: gap within tol·P.
    """

    objective: Tensor
    gap: Tensor
    floor: Tensor
    solved: Tensor
    precise: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """The fields in order."""
        return self.objective, self.gap, self.floor, self.solved, self.precise


def row_gaps(
    problem: RowRegression, weights: Tensor, *, tol: float, thorough: bool = False
) -> RowGaps:
    """Objective and duality gap of every row, and whether it is solved, at one matrix product.

    The error that rounding makes in P, 8 eps (‖z‖² + Σ_j w_j² G_jj), counts against a row: it is
    solved only where the figures say so whichever way they were rounded.

    Args:
        problem: the rows.
        weights: (rows, D) float64.
        tol: relative tolerance.
        thorough: whether to look for better dual points where the scaled one does not suffice, at a
            factorisation of G. When λ = 0 this is always done, and without a budget exact.
    """
    point = Point.at(problem, weights)
    objective = 0.5 * point.residual + point.penalty * point.norm
    target = point.target_square.clamp(min=0)
    floor = _ROUNDING * (target + target.sqrt() * point.size)
    error = _ROUNDING * (target + point.square)
    trusted = error <= _TRUSTED * floor

    magnitude = point.correlations.abs()
    count = 0 if problem.budget is None else problem.budget.count
    radius = 0.0 if problem.budget is None else problem.budget.radius
    inside = _row_max(magnitude[:, :count])
    # |G||w| <= d (d·|w|) by Cauchy-Schwarz with d² = diag G: bounds the rounding error of g.
    rounding = _ROUNDING * (target.sqrt() + point.size)[:, None] * point.deviation

    def gap_at(outside: Tensor) -> Tensor:
        theta = torch.where(outside > point.penalty, point.penalty / outside, 1.0)
        excess = (theta * inside - point.penalty).clamp(min=0) if count else 0.0
        return (
            0.5 * (1 - theta).square() * point.residual
            + (point.penalty * point.norm - theta * point.fit)
            + radius * excess
        ).clamp(min=0)

    gap = gap_at(_row_max(magnitude[:, count:]))
    least = tol * (objective - error).clamp(min=0)
    precise = gap + error <= least
    unpenalised = bool((torch.as_tensor(problem.l1) == 0).any())
    if unpenalised or (thorough and not bool(precise.all())):
        if problem.shift is None:
            _ = problem.row_space  # made once, for all selections of rows
        rows = (~precise).nonzero().squeeze(1)
        found = row_space_gaps(problem.select(rows), point.select(rows), tol=tol)
        precise[rows] |= found <= least[rows]
        gap[rows] = torch.minimum(gap[rows], found)
    # Rounding can make a correlation exceed λ: by no more than its own error it does not count.
    indistinct = gap_at(_row_max(magnitude[:, count:] - rounding[:, count:]))
    indistinct = torch.where(point.penalty > 0, indistinct, torch.inf)
    at_floor = trusted & ((gap <= floor) | (indistinct <= torch.maximum(tol * objective, floor)))
    return RowGaps(objective, gap, floor, precise | at_floor, precise)


def _row_max(values: Tensor) -> Tensor:
    """Largest entry of every row (rows,), 0 where there is none."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0])
    return values.amax(dim=1)


def ratio(gap: float, objective: float) -> float:
    """Gap / objective; 0 for no gap, whatever the objective."""
    return 0.0 if gap == 0 else gap / max(objective, torch.finfo(torch.float64).tiny)


def kkt_residual(problem: RowRegression, weights: Tensor) -> Tensor:
    """‖w − prox_t(w + t g)‖∞ / (t ‖h‖∞) of every row (rows,)."""
    correlations = Point.at(problem, weights).correlations
    step = 1.0 / max(_spectral_norm(problem), torch.finfo(torch.float64).tiny)
    threshold = step * problem.penalties[:, None]
    moved = prox_rows(weights + step * correlations, threshold, problem.budget)
    residual = (weights - moved).abs().amax(dim=1) / step
    scale = _row_max(problem.cross.abs())
    # A row with h = 0 is optimal at w = 0 alone: residual 0 there, infinite elsewhere.
    return torch.where(residual == 0, residual, residual / scale)


def _spectral_norm(problem: RowRegression) -> float:
    """‖G‖₂ to a per cent by power iteration; its exact value only sets the unit of the residual."""
    vector = problem.feature_squares.clamp(min=0).sqrt()
    norm = 0.0
    for _ in range(30):
        vector = problem.multiply_shared(vector)
        norm = float(vector.norm())
        if norm == 0:
            return 0.0
        vector = vector / norm
    return norm
