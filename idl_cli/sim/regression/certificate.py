"""Judges weights, whoever computed them: duality gap, KKT residual, feasibility, sparsity.

What a row's gap and KKT residual are is in ``row_gaps``. No solver may import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from idl_cli.errors import ShapeError
from idl_cli.sim.regression.duality_gap import RowGaps as RowGaps
from idl_cli.sim.regression.duality_gap import kkt_residual, ratio
from idl_cli.sim.regression.duality_gap import row_gaps as row_gaps
from idl_cli.sim.regression.problem import RowRegression

RowStatus = Literal["optimal", "at_precision", "inexact", "failed"]

FEASIBILITY = 1e-9
"""Share of the budget by which a row norm may exceed it in float64 and still count as feasible."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known about given weights, row by row and as a whole.

    Attributes:
        objective: Σ P(w_i), the quantity minimised.
        relative_gap: Σ gaps / Σ P.
        worst_row_gap: largest gap_i / P_i.
        kkt_residual: largest ‖w − prox_t(w + t g)‖∞ / (t ‖h‖∞) over the rows, t = 1/‖G‖₂. Zero
            exactly at an optimum, 1 at w = 0 for λ = 0; free of units.
        inf_norm: largest ‖w[:count]‖₁, 0 without a budget.
        feasible: whether ``inf_norm`` exceeds the budget by at most 1e-9 of it, and no row has more
            non-zeros than it may.
        nonzero_fraction: share of weights that are not exactly zero.
        status: ``optimal``: feasible, relative gap <= tol, no row inexact; ``at_precision``: as
            good as float64 can tell; ``inexact``: neither; ``failed``: NaN or infinite weights.
        row_objectives: P(w_i) (rows,).
        row_gaps: gap_i (rows,), absolute.
        row_kkt: the KKT residual of each row (rows,).
        row_status: optimal, at_precision, inexact or failed, of each row.
        dead_rows: indices of rows whose target is zero throughout.
        budget_bound_rows: indices of rows that use their whole budget.
    """

    objective: float
    relative_gap: float
    worst_row_gap: float
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


def certify(problem: RowRegression, weights: Tensor, *, tol: float = 1e-6) -> Certificate:
    """Judge weights in float64.

    Args:
        problem: the rows.
        weights: (rows, D), any float dtype; judged as they are, feasible or not.
        tol: largest relative gap that counts as optimal.

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
    gaps = row_gaps(problem, weights, tol=tol, thorough=not problem.is_split)
    kkt = kkt_residual(problem, weights)
    norms = problem.row_norms(weights)
    radius = float("inf") if problem.budget is None else problem.budget.radius
    within = norms <= radius * (1 + FEASIBILITY)
    if problem.nonzeros is not None:
        within = within & ((weights != 0).sum(dim=1) <= problem.nonzeros)

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
    relative = ratio(float(gaps.gap.sum()), objective)
    return Certificate(
        objective=objective,
        relative_gap=relative,
        worst_row_gap=_largest(torch.where(gaps.gap == 0, 0.0, gaps.gap / gaps.objective)),
        kkt_residual=_largest(kkt),
        inf_norm=_largest(norms),
        feasible=bool(within.all()),
        nonzero_fraction=int((weights != 0).sum()) / max(weights.numel(), 1),
        status=_overall(row_status, relative, tol),
        row_objectives=gaps.objective,
        row_gaps=gaps.gap,
        row_kkt=kkt,
        row_status=row_status,
        dead_rows=tuple((problem.target_square <= 0).nonzero()[:, 0].tolist()),
        budget_bound_rows=tuple((norms >= radius * (1 - 1e-9)).nonzero()[:, 0].tolist()),
    )


def certify_together(problem: RowRegression, weights: Tensor, *, tol: float) -> Certificate:
    """The certificate of all rows, of which each process judges its own."""
    parts = problem.partition.group.gather_objects(certify(problem, weights, tol=tol))
    return parts[0] if len(parts) == 1 else merge_certificates(parts, tol=tol)


def merge_certificates(parts: Sequence[Certificate], *, tol: float) -> Certificate:
    """The certificate of rows that were judged in parts, in the order of the parts."""
    objective = sum(part.objective for part in parts)
    relative = ratio(sum(float(part.row_gaps.sum()) for part in parts), objective)
    row_status = tuple(status for part in parts for status in part.row_status)
    rows = [len(part.row_status) for part in parts]
    starts = [sum(rows[:index]) for index in range(len(parts))]
    return Certificate(
        objective=objective,
        relative_gap=relative,
        worst_row_gap=max(part.worst_row_gap for part in parts),
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


def _overall(rows: tuple[RowStatus, ...], relative: float, tol: float) -> RowStatus:
    if "failed" in rows:
        return "failed"
    if "inexact" in rows:
        return "inexact"
    return "optimal" if relative <= tol else "at_precision"
