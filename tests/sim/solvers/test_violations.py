"""Features that violate the optimality conditions: none at an optimum, those that should enter."""

from __future__ import annotations

import pytest
import torch

from idl_cli.sim.regression.solve import solve
from idl_cli.sim.solvers import ActiveSetSolver
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.violations import violations
from tests.sim.problem_bank import BANK

NAMES = ["planted sparse", "budget active", "no budget", "elastic net", "budget on all weights"]


@pytest.mark.parametrize("name", NAMES)
def test_no_feature_violates_the_conditions_at_the_optimum(name: str) -> None:
    problem = BANK[name].regression
    scaled = ScaledProblem.of(problem)
    weights = solve(problem, ActiveSetSolver(), tol=1e-10).weights
    points = scaled.from_weights(weights)
    correlations = scaled.cross - scaled.multiply(points)
    assert not bool(violations(problem, scaled, points, correlations).any())
    # Without the feature that matters most, that feature, and no other present one, violates them.
    rows = torch.arange(problem.rows)
    largest = points.abs().argmax(dim=1)
    points[rows, largest] = 0.0
    correlations = scaled.cross - scaled.multiply(points)
    found = violations(problem, scaled, points, correlations)
    present = weights.abs().amax(dim=1) > 0
    assert bool((found[rows, largest] > 0)[present].all())
    assert not bool(found[points != 0].any())


def test_from_zero_the_excess_is_that_of_the_correlations() -> None:
    problem = BANK["budget active"].regression
    scaled = ScaledProblem.of(problem)
    found = violations(problem, scaled, torch.zeros_like(scaled.cross), scaled.cross)
    expected = (problem.cross.abs() - problem.l1).clamp(min=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)
