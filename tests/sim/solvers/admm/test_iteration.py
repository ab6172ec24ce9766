"""Splitting where nothing but its own limits keeps ρ in place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.solvers import ActiveSetSolver, ADMMSolver, BaseSolver, LeastSquareSolver


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", [ActiveSetSolver(), ADMMSolver()])
@pytest.mark.parametrize("budget", [None, RowBudget(5, 1e3)])
def test_without_a_penalty_directions_without_data_stay_small(
    seed: int, solver: BaseSolver, budget: RowBudget | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right, weights = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((60, 12), (12, 15), (15, 4))
    )
    features = left @ right
    targets = features @ weights + torch.randn(60, 4, dtype=torch.float64, generator=generator)
    problem = RowRegression(
        gram=features.T @ features,
        cross=targets.T @ features,
        target_square=targets.square().sum(dim=0),
        l1=0.0,
        budget=budget,
    )
    solution = solve(problem, solver, tol=1e-6)
    smallest = solve(replace(problem, budget=None), LeastSquareSolver(), tol=1e-6)
    assert solution.status == "optimal"
    # Any answer may hold some of a direction without data; none has a reason to hold much.
    assert solution.weights.norm() <= 3 * smallest.weights.norm()
    torch.testing.assert_close(
        solution.weights @ features.T, smallest.weights @ features.T, rtol=1e-3, atol=1e-3
    )
