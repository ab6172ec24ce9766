"""The exact proximal operator of a row's penalty: soft threshold, then project on the l1 ball."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.equilibrium.constraints import project_rows_l1
from idl_cli.sim.regression.problem import RowBudget


def prox_rows(
    values: Tensor, threshold: float | Tensor, budget: RowBudget | None, cost: Tensor | None = None
) -> Tensor:
    """Minimise ``½‖w − v‖² + threshold ‖w‖₁`` subject to the budget, for every row v.

    The prox of a sum is not in general the composition of the proxes; here it is exact: the l1
    ball's multiplier only adds to the soft threshold of the first ``count`` entries.

    Args:
        values: (rows, D), any float dtype.
        threshold: >= 0, one number or (rows, 1).
        budget: l1 budget of the first entries of each row, or None.
        cost: (D,) > 0 replaces ‖w‖₁ by Σ cost_j |w_j| in penalty and budget (coordinates scaled by
            1/cost); None for ones.

    Returns:
        (rows, D), a new tensor.
    """
    limit = torch.as_tensor(threshold, dtype=values.dtype, device=values.device)
    if cost is not None:
        limit = limit * cost
    shrunk = values - values.clamp(min=-limit, max=limit)
    if budget is not None:
        leading = shrunk[:, : budget.count]
        if cost is None:
            leading.copy_(project_rows_l1(leading, budget.radius))
        else:
            project_rows_weighted_l1_(leading, cost[: budget.count], budget.radius)
    return shrunk


def project_rows_weighted_l1_(matrix: Tensor, cost: Tensor, radius: float) -> None:
    """Project every row on ``{a: Σ cost_j |a_j| ≤ radius}`` in place.

    The projection is a soft threshold by μ·cost_j, where μ is the root of a decreasing piecewise
    linear function with breakpoints |a_j|/cost_j: sorted, its pieces are searched at once.

    Args:
        matrix: (rows, columns), overwritten.
        cost: (columns,) > 0.
        radius: > 0.
    """
    magnitude = matrix.abs()
    outside = (magnitude @ cost > radius).nonzero().squeeze(1)
    if len(outside) == 0:
        return
    magnitude = magnitude[outside]
    breakpoints, order = (magnitude / cost).sort(dim=1, descending=True)
    weighted = (magnitude * cost).gather(1, order).cumsum(dim=1)
    squares = cost.square()[order].cumsum(dim=1)
    candidates = (weighted - radius) / squares
    # The entries above the root are exactly those whose own candidate lies below their breakpoint.
    support = (breakpoints > candidates).sum(dim=1, keepdim=True).clamp(min=1)
    root = candidates.gather(1, support - 1)
    matrix[outside] = matrix[outside].sign() * (magnitude - root * cost).clamp(min=0)
