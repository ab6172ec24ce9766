"""Judges weights, whoever computed them: duality gap, KKT residual, feasibility, sparsity.

Everything follows from G, H and ‖z‖², in float64. With the residual r = z − Sᵀw and its
correlations g = S r = h − Gw, the point θr is dual feasible for θ = min(1, λ/‖g_U‖∞), g_U being the
correlations outside the budget (all of them without one), and

    P(w) − D(θr) = ½(1−θ)²‖r‖² + (λ‖w‖₁ − θ gᵀw) + κ max(θ‖g_X‖∞ − λ, 0)  ≥  P(w) − P*.

This is the textbook gap P − [θ rᵀz − ½θ²‖r‖² − κ max(θ‖g_X‖∞ − λ, 0)] with ‖z‖² cancelled by
algebra instead of by subtraction: a row fitted almost exactly keeps a meaningful gap. The elastic
net is the same problem with G + l2·I. No solver may import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from idl_cli.errors import ShapeError
from idl_cli.sim.problem import BlockedRegression, RowRegression
from idl_cli.sim.prox import prox_rows

RowStatus = Literal["optimal", "at_precision", "inexact", "failed"]

FEASIBILITY = 1e-9
"""How far a row norm may exceed the budget in float64 and still count as feasible."""

_ROUNDING = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known about given weights, row by row and as a whole.

    Attributes:
        objective: Σ P(w_i), the quantity minimised.
        relative_gap: Σ gaps / Σ P; None when λ = 0, where no finite gap exists.
        worst_row_gap: largest gap_i / P_i; None when λ = 0.
        kkt_residual: largest ‖w − prox_t(w + t g)‖∞ / (t ‖h‖∞) over the rows, t = 1/‖G‖₂. Zero
            exactly at an optimum, 1 at w = 0 for λ = 0; free of units.
        inf_norm: largest ‖w[:count]‖₁, 0 without a budget.
        feasible: whether ``inf_norm`` exceeds the budget by at most 1e-9.
        nonzero_fraction: share of weights that are not exactly zero.
        status: ``optimal``: feasible, relative gap <= tol, no row inexact; ``at_precision``: as
            good as float64 can tell; ``inexact``: neither; ``failed``: NaN or infinite weights.
        row_objectives: P(w_i) (rows,).
        row_gaps: gap_i (rows,), absolute; NaN when λ = 0.
        row_kkt: the KKT residual of each row (rows,).
        row_status: optimal, at_precision, inexact or failed, of each row.
        dead_rows: indices of rows whose target is zero throughout.
        budget_bound_rows: indices of rows that use their whole budget.
    """

    objective: float
    relative_gap: float | None
    worst_row_gap: float | None
    kkt_residual: float
    inf_norm: float
    feasible: bool
    nonzero_fraction: float
    status: RowStatus
    row_objectives: Tensor
    row_gaps: Tensor
    row_kkt: Tensor
    row_status: tuple[RowStatus, ...]
    dead_rows: tuple[int, ...]
    budget_bound_rows: tuple[int, ...]

    @property
    def inexact_rows(self) -> tuple[int, ...]:
        """Indices of rows that are not solved to the tolerance."""
        return tuple(i for i, s in enumerate(self.row_status) if s in ("inexact", "failed"))


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
    objective = 0.5 * residual + problem.l1 * norm

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
        excess = (theta * inside - problem.l1).clamp(min=0) if count else torch.zeros_like(theta)
        return (
            0.5 * (1 - theta).square() * residual
            + (problem.l1 * norm - theta * fit)
            + radius * excess
        ).clamp(min=0)

    if problem.l1 == 0:
        kkt = _kkt_residual(problem, weights, correlations)
        precise = kkt <= tol
        at_floor = kkt * _row_max(problem.cross.abs()) <= rounding
        gap = torch.full_like(objective, torch.nan)
        return RowGaps(objective, gap, floor, precise | at_floor, precise)
    gap = gap_at(_dual_scale(problem.l1, outside))
    precise = gap <= tol * objective
    # Correlations that exceed λ by less than their own rounding error do not count against a row.
    indistinct = gap_at(_dual_scale(problem.l1, outside - rounding))
    at_floor = (gap <= floor) | (indistinct <= torch.maximum(tol * objective, floor))
    return RowGaps(objective, gap, floor, precise | at_floor, precise)


def certify(problem: RowRegression, weights: Tensor, *, tol: float = 1e-6) -> Certificate:
    """Judge weights in float64.

    Args:
        problem: the rows.
        weights: (rows, D), any float dtype; judged as they are, feasible or not.
        tol: largest relative gap (KKT residual when λ = 0) that counts as optimal.

    Raises:
        ShapeError: the weights do not fit the problem.
    """
    if weights.shape != problem.cross.shape:
        raise ShapeError(
            f"weights must have shape {tuple(problem.cross.shape)} (rows, features), "
            f"got {tuple(weights.shape)}"
        )
    weights = weights.to(problem.cross)
    finite = weights.isfinite().all(dim=1)
    gaps = row_gaps(problem, weights, tol=tol)
    correlations = problem.cross - problem.multiply(weights)
    kkt = _kkt_residual(problem, weights, correlations)
    norms = problem.row_norms(weights)
    radius = float("inf") if problem.budget is None else problem.budget.radius
    within = norms <= radius + FEASIBILITY

    row_status = tuple(
        _row_status(*flags)
        for flags in zip(
            finite.tolist(),
            within.tolist(),
            gaps.precise.tolist(),
            gaps.solved.tolist(),
            strict=True,
        )
    )
    objective = float(gaps.objective.sum())
    relative, worst = None, None
    if problem.l1 > 0:
        tiny = torch.finfo(torch.float64).tiny
        relative = float(gaps.gap.sum()) / max(objective, tiny)
        worst = _largest(gaps.gap / gaps.objective.clamp(min=tiny))
    return Certificate(
        objective=objective,
        relative_gap=relative,
        worst_row_gap=worst,
        kkt_residual=_largest(kkt),
        inf_norm=_largest(norms),
        feasible=bool(within.all()),
        nonzero_fraction=int((weights != 0).sum()) / max(weights.numel(), 1),
        status=_overall(row_status, relative, tol),
        row_objectives=gaps.objective,
        row_gaps=gaps.gap,
        row_kkt=kkt,
        row_status=row_status,
        dead_rows=tuple((problem.target_square == 0).nonzero()[:, 0].tolist()),
        budget_bound_rows=tuple((norms >= radius * (1 - 1e-9)).nonzero()[:, 0].tolist()),
    )


def certify_together(problem: RowRegression, weights: Tensor, *, tol: float) -> Certificate:
    """The certificate of all rows, of which each process judges its own."""
    own = certify(problem, weights, tol=tol)
    if not isinstance(problem, BlockedRegression):
        return own
    return merge_certificates(problem.split.group.gather_objects(own), tol=tol)


def merge_certificates(parts: Sequence[Certificate], *, tol: float) -> Certificate:
    """The certificate of rows that were judged in parts, in the order of the parts."""
    objective = sum(part.objective for part in parts)
    relative, worst = None, None
    if all(part.relative_gap is not None for part in parts):
        gap = sum(float(part.row_gaps.sum()) for part in parts)
        relative = gap / max(objective, torch.finfo(torch.float64).tiny)
        worst = max(part.worst_row_gap or 0.0 for part in parts)
    row_status = tuple(status for part in parts for status in part.row_status)
    rows = [len(part.row_status) for part in parts]
    starts = [sum(rows[:index]) for index in range(len(parts))]
    return Certificate(
        objective=objective,
        relative_gap=relative,
        worst_row_gap=worst,
        kkt_residual=max(part.kkt_residual for part in parts),
        inf_norm=max(part.inf_norm for part in parts),
        feasible=all(part.feasible for part in parts),
        nonzero_fraction=sum(
            part.nonzero_fraction * count for part, count in zip(parts, rows, strict=True)
        )
        / sum(rows),
        status=_overall(row_status, relative, tol),
        row_objectives=torch.cat([part.row_objectives for part in parts]),
        row_gaps=torch.cat([part.row_gaps for part in parts]),
        row_kkt=torch.cat([part.row_kkt for part in parts]),
        row_status=row_status,
        dead_rows=_shifted([part.dead_rows for part in parts], starts),
        budget_bound_rows=_shifted([part.budget_bound_rows for part in parts], starts),
    )


def _shifted(parts: Sequence[tuple[int, ...]], starts: Sequence[int]) -> tuple[int, ...]:
    pairs = zip(parts, starts, strict=True)
    return tuple(index + start for part, start in pairs for index in part)


def _largest(values: Tensor) -> float:
    """Largest entry, 0 of none."""
    return float(values.max()) if values.numel() else 0.0


def _row_status(finite: bool, feasible: bool, precise: bool, solved: bool) -> RowStatus:
    if not finite:
        return "failed"
    if not feasible or not solved:
        return "inexact"
    return "optimal" if precise else "at_precision"


def _overall(rows: tuple[RowStatus, ...], relative: float | None, tol: float) -> RowStatus:
    if "failed" in rows:
        return "failed"
    if "inexact" in rows:
        return "inexact"
    if relative is None:
        return "at_precision" if "at_precision" in rows else "optimal"
    return "optimal" if relative <= tol else "at_precision"


def _dual_scale(l1: float, outside: Tensor) -> Tensor:
    """θ = min(1, λ/‖g_U‖∞) (rows,)."""
    return l1 / outside.clamp(min=l1)


def _row_max(values: Tensor) -> Tensor:
    """Largest entry of every row (rows,), 0 where there is none."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0])
    return values.amax(dim=1)


def _kkt_residual(problem: RowRegression, weights: Tensor, correlations: Tensor) -> Tensor:
    """‖w − prox_t(w + t g)‖∞ / (t ‖h‖∞) of every row (rows,)."""
    step = 1.0 / max(_spectral_norm(problem), torch.finfo(torch.float64).tiny)
    moved = prox_rows(weights + step * correlations, step * problem.l1, problem.budget)
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
