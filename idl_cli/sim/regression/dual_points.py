"""Dual points besides the scaled residual: what is certified where λ is zero, or small.

For any c in the row space of the samples there is a residual r′ with S r′ = c, namely
r − Sᵀ G⁺(g − c). It is dual feasible where |c_j| ≤ λ outside the budget and |c_j| ≤ λ + μ inside,
for any μ ≥ 0, and then

    P(w) − D(r′) = ½ (g−c)ᵀ G⁺ (g−c) + (λ‖w‖₁ − cᵀw) + κ μ  ≥  P(w) − P*.

With λ = 0 and no budget c = 0: the gap of least squares, exactly. Otherwise c is g cut off at its
limits, which is all but g where w is nearly optimal, however flat the objective is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression

_ROUNDING: Final = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Point:
    """Weights, and what of a row's figures follows from them at one matrix product.

    Attributes:
        weights: w (rows, D).
        penalty: λ (rows,).
        correlations: g (rows, D).
        inner: g in the shifted coordinates of the problem (rows, D), g itself where there are none.
        residual: ‖r‖² (rows,).
        fit: gᵀw (rows,).
        norm: ‖w‖₁ (rows,).
        target_square: ‖z‖² (rows,), of the shifted target.
        deviation: √G_jj (D,), of the shifted features.
        size: Σ_j |w_j| √G_jj (rows,), shifted likewise.
        square: Σ_j w_j² G_jj (rows,), shifted likewise.
    """

    weights: Tensor
    penalty: Tensor
    correlations: Tensor
    inner: Tensor
    residual: Tensor
    fit: Tensor
    norm: Tensor
    target_square: Tensor
    deviation: Tensor
    size: Tensor
    square: Tensor

    @classmethod
    def at(cls, problem: RowRegression, weights: Tensor) -> Point:
        """Weights (rows, D) float64 of a problem; collective where G is split."""
        shift = problem.shift
        accurate = problem.accurate
        values = weights if shift is None else shift.weights(weights)
        inner = accurate.cross - accurate.multiply(values)
        deviation = accurate.feature_squares.clamp(min=0).sqrt()
        fit = (inner * values).sum(dim=1)
        residual = accurate.target_square - (accurate.cross * values).sum(dim=1) - fit
        sizes = values.abs() * deviation
        return cls(
            weights=weights,
            penalty=problem.penalties,
            correlations=inner if shift is None else shift.correlations(inner),
            inner=inner,
            residual=residual.clamp(min=0),
            fit=fit if shift is None else fit + shift.targets * inner[:, shift.constant],
            norm=weights.abs().sum(dim=1),
            target_square=accurate.target_square,
            deviation=deviation,
            size=sizes.sum(dim=1),
            square=sizes.square().sum(dim=1),
        )

    def select(self, rows: Tensor) -> Point:
        """Of some rows (indices) only."""
        fields = {
            name: value if name == "deviation" else value[rows]
            for name, value in vars(self).items()
        }
        return Point(**fields)


def row_space_gaps(problem: RowRegression, point: Point, *, tol: float) -> Tensor:
    """The least gap (rows,) over a few choices of c; infinite where none is a proof.

    That is where g − c has a part along which G cannot be told from zero, and where the gap would
    be above ``tol`` times the objective anyway.
    """
    best = torch.full_like(point.norm, torch.inf)
    accurate = problem.accurate
    objective = 0.5 * point.residual + point.penalty * point.norm
    noise = _ROUNDING * (point.target_square.clamp(min=0).sqrt() + point.size)
    for multiplier in _multipliers(problem, point):
        limit = point.penalty[:, None].expand_as(point.weights)
        radius = 0.0
        if problem.budget is not None:
            count, radius = problem.budget.count, problem.budget.radius
            limit = limit.clone()
            limit[:, :count] += multiplier[:, None]
        for wanted, cut in _cuts(problem, point, limit):
            slack = (limit * point.weights.abs() - cut * point.weights).sum(dim=1)
            if problem.budget is not None:
                slack += multiplier * (radius - problem.row_norms(point.weights))
            left_over = wanted - cut
            space = accurate.row_space
            hopeless = space.norms(left_over) > 2 * problem.features * tol * objective
            if bool(hopeless.all()) and not problem.is_split:
                continue
            quadratic, outside, length = space.solve(left_over)
            gap = 0.5 * quadratic + slack.clamp(min=0)
            proven = outside <= noise + _ROUNDING * length
            best = torch.where(proven & ~hopeless, torch.minimum(best, gap), best)
    return best


def _multipliers(problem: RowRegression, point: Point) -> list[Tensor]:
    """Choices of μ (rows,): the one that fits g on the weights in the budget, and none."""
    none = torch.zeros_like(point.norm)
    if problem.budget is None:
        return [none]
    leading = point.weights[:, : problem.budget.count]
    pull = (point.correlations[:, : problem.budget.count] * leading).sum(dim=1)
    fitted = (pull / leading.abs().sum(dim=1) - point.penalty).nan_to_num(0.0).clamp(min=0)
    needed = problem.is_split or bool((fitted > 0).any())
    return [fitted, none] if needed else [none]


def _cuts(problem: RowRegression, point: Point, limit: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs g, c (rows, D), g in shifted coordinates as far as these change it.

    Shifted features make g_j = g̃_j + μ_j g̃_c of two large numbers. What is wanted is c with
    g̃_j − c_j + μ_j c_c small, so that c_c is chosen first.
    """
    shift = problem.shift
    if shift is None:
        return [(point.correlations, point.correlations.clamp(min=-limit, max=limit))]
    own, most = point.inner[:, shift.constant], limit[:, shift.constant]
    present = (point.weights != 0).to(own) * shift.features
    misfit = limit * point.weights.sign() - point.inner
    fitted = (present * misfit).sum(dim=1) / (present * shift.features).sum(dim=1)
    choices = [point.weights[:, shift.constant].sign() * most, own, fitted.nan_to_num(0.0)]
    result = []
    for choice in choices:
        chosen = choice.clamp(min=-most, max=most)
        wanted = point.inner + chosen[:, None] * shift.features
        cut = wanted.clamp(min=-limit, max=limit)
        cut[:, shift.constant] = chosen
        result.append((wanted, cut))
    return result
