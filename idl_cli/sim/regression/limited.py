"""Problems with a limit on non-zeros and with offsets: as they stand, or centred.

With features centred the constant's weight is every row's to have, one of the k that it may have,
though a row may be better off without. So rows are centred only where offsets would hide from a
solver what features vary by: where they make up nearly all of G's diagonal, or a target's square.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from idl_cli.sim.regression.attempts import Attempts
from idl_cli.sim.regression.centring import Centred
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.shift import Shift
from idl_cli.sim.regression.solver import SolverResult, Start

_HIDING: Final = 100.0
"""Diagonal of G over that of its offsets taken out. A solver's ridge is some 1e-4 of the former."""
_HIDING_TARGET: Final = 1e8
"""A target's square over that of its offset taken out: half of float64's digits."""


@dataclass(frozen=True, eq=False)
class LimitedForm:
    """What a solver gets of a problem with a limit on non-zeros.

    Attributes:
        problem: without a shift.
        centred: that which the problem is centred by; None where it stands as it is.
    """

    problem: RowRegression
    centred: Centred | None

    @classmethod
    def of(cls, problem: RowRegression) -> LimitedForm:
        """Of a problem whose limit, where there is one already, becomes that of the form."""
        shift = problem.shift
        if shift is None or not _hides(problem, shift):
            return cls(replace(problem, shift=None), None)
        centred = Centred.of(problem, shift)
        form = centred.rows(torch.zeros_like(shift.targets))
        if problem.nonzeros is not None:
            form = replace(form, nonzeros=(problem.nonzeros - 1).clamp(min=0))
        return cls(form, centred)

    def removal_costs(self, increments: Tensor) -> Tensor:
        """What the removals of an elimination of this form cost the problem (rows, D).

        Args:
            increments: (rows, D) of the form's objective, the first removal first.
        """
        if self.centred is None:
            return increments
        # The eliminated constant costs nothing there, and is among the first to go; a row that has
        # weights at all has it, as the last of them.
        shift = self.centred.shift
        raw = self.centred.problem
        alone = raw.cross[:, shift.constant].square() / raw.gram[shift.constant, shift.constant]
        return torch.cat([increments[:, 1:], 0.5 * alone[:, None]], dim=1)


def solve_limited(
    problem: RowRegression,
    attempts: Attempts,
    start: Start | None,
    checkpointing: Checkpointing | None,
) -> SolverResult:
    """Solve a problem with a limit on non-zeros.

    Args:
        problem: with ``nonzeros``.
        attempts: runs the solver.
        start: where to begin.
        checkpointing: of the solve.
    """
    form = LimitedForm.of(problem)
    result = attempts.run(form.problem, start, checkpointing)
    if form.centred is None:
        return result
    weights = form.centred.completed(result.weights, torch.zeros_like(problem.target_square))
    assert problem.nonzeros is not None
    weights = weights * (problem.nonzeros > 0)[:, None]
    # Exchanges with the constant's weight have not been looked at.
    return replace(result, weights=weights, swap_optimal=False)


def _hides(problem: RowRegression, shift: Shift) -> bool:
    others = torch.ones_like(shift.features, dtype=torch.bool)
    others[shift.constant] = False
    raw, left = (gram.diagonal()[others].sum() for gram in (problem.gram, shift.gram))
    targets = problem.target_square > _HIDING_TARGET * shift.target_square
    return bool(raw > _HIDING * left) or bool(targets.any())
