"""How well every row of a stage fits its target, whatever its certificate says.

A certificate tells that no other weights do better *at this λ and κ*; it says nothing of how much
of the target they reach. From the statistics alone, with r the residual of a row,

    r² = 1 − ‖r‖² / ‖z − z̄‖²

where z̄ is the target's mean, known where the features hold a constant 1; without one (a teacher
without biases) the target is taken as it is, z̄ = 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from idl_cli.errors import PoorFitWarning
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.states.layout import StateLayout

POOR_FIT: Final = 0.9
"""A row whose r² is below this is worth a warning: a tenth of what the teacher says is lost."""
_CONSTANT: Final = 1e-12
"""Share of ‖z‖² below which what z varies by is rounding of the sums: the target is a constant."""
_SHOWN: Final = 5


def residual_squares(problem: RowRegression, weights: Tensor) -> Tensor:
    """‖z − Sᵀw‖² of every row (rows,), of the problem's own rows.

    Args:
        problem: whose statistics and targets.
        weights: (rows, D) float64, of all rows where processes share them.
    """
    weights = problem.partition.own_rows(weights)
    quadratic = ((problem.multiply(weights) - problem.l2 * weights) * weights).sum(dim=1)
    squares = problem.target_square - 2 * (problem.cross * weights).sum(dim=1) + quadratic
    return squares.clamp(min=0)


def row_r2(problem: RowRegression, residual: Tensor, *, count: int, has_constant: bool) -> Tensor:
    """r² of every row (rows,), of all rows where processes share them; 1 for a dead row.

    Args:
        problem: of the stage.
        residual: ‖r‖² of its own rows, as ``residual_squares`` gives it.
        count: samples m.
        has_constant: whether the last feature is a constant 1.
    """
    square = problem.target_square
    spread = square
    if has_constant:
        varies = square - problem.cross[:, -1].square() / count
        spread = torch.where(varies > _CONSTANT * square, varies, square)
    explained = torch.where(square > 0, 1 - residual / spread, torch.ones_like(square))
    return problem.partition.whole_rows(explained)


def relative_residual(problem: RowRegression, residual: Tensor, scale: Tensor) -> float:
    """√(Σ‖r‖² / Σ‖z‖²), each row in the units it had before it was divided by ``scale`` (rows,)."""
    units = problem.partition.own_rows(scale).to(residual).square()
    sums = torch.stack([(residual * units).sum(), (problem.target_square * units).sum()])
    lost, target = problem.partition.total(sums).tolist()
    return float(lost / target) ** 0.5 if target > 0 else 0.0


def warn_of_poor_fits(found: Fit, layout: StateLayout) -> None:
    """Name the rows that a fit explains badly, by layer."""
    for stage, r2, rows in (
        ("[A B]", found.ab.row_r2, list(_row_names(layout))),
        ("[C D]", found.cd.row_r2, [f"output {row}" for row in range(layout.output_dim)]),
    ):
        poor = sorted((r2 < POOR_FIT).nonzero()[:, 0].tolist(), key=lambda row: float(r2[row]))
        if not poor:
            continue
        shown = ", ".join(f"{rows[row]} ({float(r2[row]):.2g})" for row in poor[:_SHOWN])
        warnings.warn(
            f"{stage} fits {len(poor)} of {len(r2)} rows with r2 below {POOR_FIT:g} against the "
            f"teacher, the worst: {shown}{', ...' if len(poor) > _SHOWN else ''}; lower "
            f"lambda_{'z' if stage == '[A B]' else 'y'}, or raise kappa or the number of samples",
            PoorFitWarning,
            stacklevel=3,
        )


def _row_names(layout: StateLayout) -> Iterator[str]:
    for name, size in zip(layout.names, layout.sizes, strict=True):
        yield from (f"unit {unit} of {name!r}" for unit in range(size))
