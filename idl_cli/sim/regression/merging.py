"""Problems that were solved one by one, as one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.regression.certificate import merge_certificates
from idl_cli.sim.regression.solve import Solution, Status
from idl_cli.sim.regression.solver import Start

_WORST_LAST: Final[tuple[Status, ...]] = (
    "optimal",
    "at_precision",
    "swap_optimal",
    "stationary",
    "unconstrained",
    "inexact",
)


def merge_solutions(
    answers: Sequence[Solution],
    weights: Tensor,
    stored: Tensor,
    *,
    stored_inf_norm: float,
    tol: float,
) -> Solution:
    """The answers to problems of their own features as one, with the worst of their statuses.

    Args:
        answers: in the order of the rows.
        weights: of all rows, in common places.
        stored: the same in the dtype asked for.
        stored_inf_norm: largest l1 norm of its budgeted part.
        tol: as for ``solve``.
    """
    bounds = [answer.lower_bound for answer in answers if answer.lower_bound is not None]
    return Solution(
        weights=weights,
        stored=stored,
        stored_inf_norm=stored_inf_norm,
        status=max((a.status for a in answers), key=_WORST_LAST.index),
        certificate=merge_certificates([a.certificate for a in answers], tol=tol),
        iterations=sum(a.iterations for a in answers),
        seconds=sum(a.seconds for a in answers),
        history=tuple(entry for a in answers for entry in a.history),
        ignored=tuple(sorted({each for a in answers for each in a.ignored})),
        notes=tuple(dict.fromkeys(note for a in answers for note in a.notes)),
        part_seconds={},
        start=Start(weights),
        lower_bound=torch.cat(bounds) if bounds else None,
    )
