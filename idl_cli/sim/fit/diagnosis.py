"""Row by row: which rows of a stage are dead, use their whole budget, or are not solved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from idl_cli.sim.regression.solve import Solution
from idl_cli.sim.states.layout import StateLayout


@dataclass(frozen=True)
class RowDiagnosis:
    """What is known of one row of [A B] or [C D].

    Attributes:
        row: its index.
        block: the activation whose state the row makes, ``output`` for rows of [C D].
        status: optimal, at_precision, inexact or failed; with a limit on non-zeros, where no gap
            of the convex problem closes, that of the whole answer, such as stationary.
        objective: P(w).
        relative_gap: gap / P; with a limit the gap is to the lower bound on any such choice.
        nonzeros: weights that are not zero.
        dead: whether the target is zero throughout (an activation that never fires).
        budget_bound: whether the row uses its whole budget ‖a‖₁ = κ.
    """

    row: int
    block: str
    status: str
    objective: float
    relative_gap: float
    nonzeros: int
    dead: bool
    budget_bound: bool


def diagnose(solution: Solution, layout: StateLayout, *, stage: str) -> tuple[RowDiagnosis, ...]:
    """All rows of a stage.

    Args:
        solution: of the stage.
        layout: names the states.
        stage: ``ab`` or ``cd``.
    """
    certificate, weights = solution.certificate, solution.weights
    blocks = list(_block_names(layout)) if stage == "ab" else ["output"] * len(weights)
    dead, bound = set(certificate.dead_rows), set(certificate.budget_bound_rows)
    gaps = certificate.row_gaps
    status: list[str] = list(certificate.row_status)
    if solution.lower_bound is not None:
        gaps = certificate.row_objectives - solution.lower_bound.to(gaps)
        status = [solution.status if each == "inexact" else each for each in status]
    relative = gaps / certificate.row_objectives.clamp(min=1e-300)
    return tuple(
        RowDiagnosis(
            row=row,
            block=blocks[row],
            status=status[row],
            objective=float(certificate.row_objectives[row]),
            relative_gap=float(relative[row]),
            nonzeros=int((weights[row] != 0).sum()),
            dead=row in dead,
            budget_bound=row in bound,
        )
        for row in range(len(weights))
    )


def _block_names(layout: StateLayout) -> Iterator[str]:
    for name, size in zip(layout.names, layout.sizes, strict=True):
        yield from [name] * size
