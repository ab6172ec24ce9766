"""From float64 weights to what a model stores, without leaving the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget


def round_feasible(
    weights: Tensor, budget: RowBudget | None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Round weights to ``dtype``, then shrink rows that overshoot the budget by as much.

    Rounding to nearest can push a row on the ball outside by a few units in the last place. Rows
    are shrunk until both their exact norm and the norm as summed in ``dtype`` itself obey the
    bound, so that whoever checks the stored matrix finds it feasible. Rows that are far outside
    (of a solver that ignores the budget) are left as they are: shrinking them would make another
    answer of them.

    Args:
        weights: (rows, D) float64.
        budget: the constraint, or None.
        dtype: what is stored.

    Returns:
        (rows, D) in ``dtype``.
    """
    rounded = weights.to(dtype)
    if budget is None:
        return rounded
    count, radius = budget.count, budget.radius
    eps = torch.finfo(dtype).eps
    near = weights[:, :count].abs().sum(dim=1) <= radius * (1 + 4 * eps)
    for _ in range(8):  # each pass removes at least one unit in the last place of every entry
        leading = rounded[:, :count]
        exact = leading.abs().sum(dim=1, dtype=torch.float64)
        summed = leading.abs().sum(dim=1).double()
        norms = torch.maximum(exact, summed)
        over = (near & (norms > radius)).nonzero().squeeze(1)
        if len(over) == 0:
            break
        factor = radius / norms[over] * (1 - 2 * eps)
        rounded[over, :count] = (leading[over].double() * factor[:, None]).to(dtype)
    return rounded
