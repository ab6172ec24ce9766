"""Least squares on given supports, within the budget, and a descent over supports from there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solver import Monitor
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.support import SupportFactor

_RIDGE = 1e-11
"""Relative to the unit diagonal; corrected by repeating the solve on the residual."""
_CORRECTIONS = 2
_BUDGET_PASSES = 200
_DESCENTS = 50


@dataclass(frozen=True, eq=False)
class Supported:
    """Rows fitted on supports.

    Attributes:
        weights: (rows, D) float64, zero outside the supports.
        errors: (rows,), ½wᵀGw − hᵀw.
    """

    weights: Tensor
    errors: Tensor


def refit(problem: RowRegression, supports: Tensor) -> Supported:
    """Minimise every row over the weights of its support (rows, D) bool, budget included."""
    scaled = ScaledProblem.of(problem)
    weights = torch.zeros_like(problem.cross)
    for row, support in enumerate(supports):
        indices = support.nonzero()[:, 0]
        if len(indices) == 0:
            continue
        weights[row, indices] = _least_squares(scaled, row, indices)
        if problem.budget is not None and _beyond(weights[row], problem.budget):
            weights[row, indices] = _within_budget(problem, row, indices, problem.budget)
    errors = 0.5 * (problem.multiply(weights) * weights).sum(dim=1)
    return Supported(weights, errors - (problem.cross * weights).sum(dim=1))


def _least_squares(scaled: ScaledProblem, row: int, indices: Tensor) -> Tensor:
    block = scaled.gram[indices][:, indices]
    right = scaled.cross[row, indices][:, None]
    factor = SupportFactor(block, _RIDGE)
    solution = factor.solve(right)
    for _ in range(_CORRECTIONS):
        solution = solution + factor.solve(right - block @ solution)
    return solution[:, 0] * scaled.cost[indices]


def _beyond(weights: Tensor, budget: RowBudget) -> bool:
    return float(weights[: budget.count].abs().sum()) > budget.radius


def _within_budget(problem: RowRegression, row: int, indices: Tensor, budget: RowBudget) -> Tensor:
    part = RowRegression(
        problem.gram[indices][:, indices].contiguous(),
        problem.cross[row : row + 1, indices],
        problem.target_square[row : row + 1],
        0.0,
        problem.l2,
        RowBudget(int((indices < budget.count).sum()), budget.radius),
    )
    scaled = ScaledProblem.of(part)
    start = torch.zeros_like(part.cross[0])
    point, _ = polish_row(part, scaled, 0, start, max_passes=_BUDGET_PASSES)
    return scaled.to_weights(point)


def limits_of(problem: RowRegression) -> Tensor:
    """Non-zeros allowed in each row (rows,); all features where there is no limit."""
    if problem.nonzeros is not None:
        return problem.nonzeros
    return torch.full((problem.rows,), problem.features, device=problem.cross.device)


def top(scores: Tensor, sizes: Tensor) -> Tensor:
    """The ``sizes`` (rows,) largest entries of each row (rows, D), of equal ones the first."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(scores.shape[1], device=scores.device)
    chosen = (place < sizes[:, None]).expand_as(scores)
    return torch.zeros_like(chosen).scatter(1, order, chosen)


def descend(problem: RowRegression, supports: Tensor, monitor: Monitor) -> tuple[Tensor, bool, int]:
    """Hard thresholding pursuit (Foucart 2011): a gradient step, its largest entries, a refit.

    In unit-diagonal coordinates, with the step 1/λmax(G). A row stops where the refit no longer
    lowers its error; it is stationary then.

    Args:
        problem: its limits are ``limits_of``.
        supports: (rows, D) bool, where to begin.
        monitor: asked for the time.

    Returns:
        Weights (rows, D), whether all rows are stationary, and the number of steps.
    """
    sizes = limits_of(problem)
    present = refit(problem, supports)
    scaled = ScaledProblem.of(problem)
    step = 1 / float(torch.linalg.matrix_norm(scaled.gram, float("inf")).clamp(min=1e-300))
    rows = torch.arange(problem.rows, device=supports.device)
    for count in range(_DESCENTS):
        values = scaled.from_weights(present.weights[rows])
        part = scaled.select(rows)
        moved = (values + step * (part.cross - part.multiply(values))).abs()
        proposed = top(moved, sizes[rows])
        changed = (proposed != supports[rows]).any(dim=1)
        rows, proposed = rows[changed], proposed[changed]
        if len(rows) == 0:
            return present.weights, True, count
        if monitor.time_is_up():
            return present.weights, False, count
        found = refit(problem.select(rows), proposed)
        lower = found.errors < present.errors[rows]
        rows, proposed = rows[lower], proposed[lower]
        present.weights[rows] = found.weights[lower]
        present.errors[rows] = found.errors[lower]
        supports = supports.index_copy(0, rows, proposed)
    return present.weights, False, _DESCENTS
