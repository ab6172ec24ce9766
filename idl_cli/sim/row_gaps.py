"""The duality gap and the KKT residual of every row, as the judge computes them.

Everything follows from G, H and ‖z‖², in float64. With the residual r = z − Sᵀw and its
correlations g = S r = h − Gw, the point θr is dual feasible for θ = min(1, λ/‖g_U‖∞), g_U being the
correlations outside the budget (all of them without one), and

    P(w) − D(θr) = ½(1−θ)²‖r‖² + (λ‖w‖₁ − θ gᵀw) + κ max(θ‖g_X‖∞ − λ, 0)  ≥  P(w) − P*.

This is the textbook gap P − [θ rᵀz − ½θ²‖r‖² − κ max(θ‖g_X‖∞ − λ, 0)] with ‖z‖² cancelled by
algebra instead of by subtraction: a row fitted almost exactly keeps a meaningful gap. The elastic
net is the same problem with G + l2·I. No solver may import this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.problem import RowRegression
from idl_cli.sim.prox import prox_rows

_ROUNDING: Final = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class RowGaps:
    """The part of a certificate that is cheap enough to compute during a solve.

    Attributes:
        objective: P(w_i) (rows,).
        gap: (rows,), absolute.
        floor: (rows,), the rounding error that the gap may carry.
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


def row_gaps(problem: RowRegression, weights: Tensor, *, tol: float) -> RowGaps:
    """Objective and duality gap of every row, and whether it is solved, at one matrix product.

    When λ = 0 the KKT residual takes the place of the relative gap.

    Args:
        problem: the rows.
        weights: (rows, D) float64.
        tol: relative tolerance.
    """
    correlations = problem.cross - problem.multiply(weights)
    fit = (correlations * weights).sum(dim=1)
    residual = (problem.target_square - (problem.cross * weights).sum(dim=1) - fit).clamp(min=0)
    norm = weights.abs().sum(dim=1)
    penalties = problem.penalties
    objective = 0.5 * residual + penalties * norm

    magnitude = correlations.abs()
    count = 0 if problem.budget is None else problem.budget.count
    radius = 0.0 if problem.budget is None else problem.budget.radius
    inside = _row_max(magnitude[:, :count])
    outside = _row_max(magnitude[:, count:])

    # |G||w| <= d (d·|w|) by Cauchy-Schwarz with d² = diag G: bounds the rounding error of g.
    deviation = problem.feature_squares.clamp(min=0).sqrt()
    rounding = _ROUNDING * (
        _row_max(problem.cross.abs()) + deviation.max() * (weights.abs() @ deviation)
    )
    floor = _ROUNDING * problem.target_square + rounding * norm

    def gap_at(theta: Tensor) -> Tensor:
        excess = (theta * inside - penalties).clamp(min=0) if count else torch.zeros_like(theta)
        return (
            0.5 * (1 - theta).square() * residual
            + (penalties * norm - theta * fit)
            + radius * excess
        ).clamp(min=0)

    if not problem.is_penalised:
        kkt = kkt_residual(problem, weights, correlations)
        precise = kkt <= tol
        at_floor = kkt * _row_max(problem.cross.abs()) <= rounding
        gap = torch.full_like(objective, torch.nan)
        return RowGaps(objective, gap, floor, precise | at_floor, precise)
    gap = gap_at(_dual_scale(penalties, outside))
    precise = gap <= tol * objective
    # Correlations that exceed λ by less than their own rounding error do not count against a row.
    indistinct = gap_at(_dual_scale(penalties, outside - rounding))
    at_floor = (gap <= floor) | (indistinct <= torch.maximum(tol * objective, floor))
    return RowGaps(objective, gap, floor, precise | at_floor, precise)


def _dual_scale(l1: Tensor, outside: Tensor) -> Tensor:
    """θ = min(1, λ/‖g_U‖∞) (rows,)."""
    return l1 / outside.clamp(min=l1)


def _row_max(values: Tensor) -> Tensor:
    """Largest entry of every row (rows,), 0 where there is none."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0])
    return values.amax(dim=1)


def kkt_residual(problem: RowRegression, weights: Tensor, correlations: Tensor) -> Tensor:
    """‖w − prox_t(w + t g)‖∞ / (t ‖h‖∞) of every row (rows,)."""
    step = 1.0 / max(_spectral_norm(problem), torch.finfo(torch.float64).tiny)
    moved = prox_rows(
        weights + step * correlations, step * problem.penalties[:, None], problem.budget
    )
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
