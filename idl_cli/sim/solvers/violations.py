"""Which features violate the optimality conditions of their row, of many rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.solvers.scaling import ScaledProblem

_TOLERANCE = 1e-10
"""Relative violation that is left alone; that of a row's own descent."""
_ROUNDING = 8 * torch.finfo(torch.float64).eps
_ON_BALL = 1e-6
"""A row this close to its budget, relatively, is on it: float32 starts miss by 1e-7."""


def violations(
    problem: RowRegression, scaled: ScaledProblem, points: Tensor, correlations: Tensor
) -> Tensor:
    """How much the zero entries of rows exceed what an optimum allows there.

    At an optimum |g_j| <= (λ + μ) cost_j inside the budget and λ cost_j outside, with equality
    where v_j is not zero; μ >= 0, the budget's multiplier, is the one that fits the latter best.

    Args:
        problem: of these rows; gives penalties and budget.
        scaled: a problem with the same features in unit-diagonal coordinates; gives cost.
        points: v (rows, D) in these coordinates, feasible.
        correlations: g = h − v G (rows, D).

    Returns:
        (|g_j| − limit) / cost_j (rows, D) where v_j = 0 and the excess is not round-off, else 0.
    """
    penalties = problem.penalties[:, None]
    limit = penalties * scaled.cost
    if problem.budget is not None:
        count, radius = problem.budget.count, problem.budget.radius
        cost = scaled.cost[:count]
        size = points[:, :count].abs()
        excess = (points.sign() * correlations)[:, :count] / cost - penalties
        weight = size.sum(dim=1)
        multiplier = ((excess * size).sum(dim=1) / weight).nan_to_num(0.0).clamp(min=0)
        bound = size @ cost >= radius * (1 - _ON_BALL)
        pressure = (multiplier * bound)[:, None] * cost
        limit = torch.cat([limit[:, :count] + pressure, limit[:, count:]], dim=1)
    # |G||v| <= Σ|v| with a unit diagonal: the rounding error of a correlation.
    sizes = (correlations.abs().amax(dim=1) + points.abs().sum(dim=1))[:, None]
    excess = correlations.abs() - limit
    significant = (points == 0) & (excess > _TOLERANCE * limit + _ROUNDING * sizes)
    return torch.where(significant, excess / scaled.cost, 0.0)
