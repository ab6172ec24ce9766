"""From the answer to a similar problem to almost the support of this one, by a few iterations.

Active-set steps take three or four factorisations a row from the answer at the last λ: one for the
old support, the others while features enter and leave. Where supports are large, some float32
splitting iterations find most of these changes for all rows at once for less.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.solvers.admm.iteration import Splitting, SplittingState
from idl_cli.sim.solvers.ridge import CholeskyInverse
from idl_cli.sim.solvers.scaling import ScaledProblem

ITERATIONS = 100
"""More find little more of the support, at a known ρ."""
_FACTORISATIONS = 5.0
"""What the passes saved on a row cost, in k³: two or three, each with its columns of G and solves
for features that leave, measured at D = 900."""
_ABOVE_BALANCE = 3.0
"""ρ in units of what balances the residuals of a long run: a short one gains from larger steps of
the multipliers."""
_LEAST_RHO = torch.finfo(torch.float32).eps
"""Beside a unit diagonal: what float32 can tell from nothing."""


def warm_start_pays(problem: RowRegression, points: Tensor) -> bool:
    """Whether iterating costs less than the passes that it saves.

    Args:
        problem: whose rows are to be solved.
        points: where they begin (rows, D), scaled coordinates.
    """
    if not problem.is_penalised:
        return False
    sizes = (points != 0).sum(dim=1).double()
    features = points.shape[1]
    saved = _FACTORISATIONS * float(sizes.pow(3).sum())
    return saved > ITERATIONS * 2 * len(points) * features**2 + features**3


def warm_started(
    problem: RowRegression,
    scaled: ScaledProblem,
    points: Tensor,
    relaxation: float,
    *,
    time_is_up: Callable[[], bool] | None = None,
) -> SplittingState:
    """Iterate from the points at a fixed ρ.

    At an optimum ρ times the multiplier is the negative gradient h − Gv, so that ρ = ‖h − Gv‖/‖v‖
    balances the two residuals of splitting. Without a budget no entry of it exceeds λ there: what
    does is the change of the problem, in its features (C and D) or in λ.

    Args:
        problem: whose rows are to be solved, λ > 0.
        scaled: the same in unit-diagonal coordinates.
        points: where to begin (rows, D) float64, scaled coordinates, not all zero.
        relaxation: over-relaxation of the iteration.
        time_is_up: asked now and then whether to end early; None for never.

    Returns:
        The state, in float64.
    """
    gradient = scaled.cross - scaled.multiply(points)
    first = 0 if problem.budget is None else problem.budget.count
    limit = problem.penalties[:, None] * scaled.cost[first:]
    gradient[:, first:] = torch.maximum(torch.minimum(gradient[:, first:], limit), -limit)
    rho = max(_ABOVE_BALANCE * float(gradient.norm() / points.norm()), _LEAST_RHO)
    start = SplittingState(points, points, points, gradient / rho, rho)
    splitting = Splitting(problem, scaled, relaxation, inverse=CholeskyInverse(scaled.gram))
    state = splitting.run(start.to(torch.float32), ITERATIONS, 0, time_is_up=time_is_up)
    return state.to(torch.float64)
