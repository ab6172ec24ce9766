"""Iterations between two similar problems: fewer factorisations, the same answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.solvers import ActiveSetSolver, ADMMSolver
from idl_cli.sim.solvers import active_set as active_set_module
from idl_cli.sim.solvers.ridge import CholeskyInverse, EigenInverse
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.warm_start import ITERATIONS, warm_start_pays, warm_started

FEATURES, ROWS = 240, 8
TOL = 1e-9


def _problem(
    *, moved: float = 0.0, budget: RowBudget | None = None, singular: bool = False
) -> RowRegression:
    """Rows with most of their features in the support; ``moved`` changes a third of them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    samples = normal(600, FEATURES) @ (torch.eye(FEATURES) + 0.1 * normal(FEATURES, FEATURES))
    targets = samples @ normal(FEATURES, ROWS) + normal(600, ROWS)
    samples[:, :80] += moved * normal(600, 80)
    if singular:
        samples[:, 1], samples[:, 2] = samples[:, 0], 0.0
    return RowRegression(
        gram=samples.T @ samples,
        cross=targets.T @ samples,
        target_square=targets.square().sum(dim=0),
        l1=100.0,
        budget=budget,
    )


CASES = {
    "free": ({}, {}),
    "budget that binds": ({"budget": RowBudget(40, 5.0)}, {"budget": RowBudget(40, 5.0)}),
    "features that moved": ({}, {"moved": 0.1}),
    "duplicated and empty features": ({"singular": True}, {"singular": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_admm_begins_with_them_too(case: str) -> None:
    before, after = (_problem(**arguments) for arguments in CASES[case])
    start = solve(replace(before, l1=150.0), ADMMSolver(), tol=TOL).start
    found = solve(after, ADMMSolver(), tol=TOL, start=start)
    cold = solve(after, ADMMSolver(), tol=TOL)
    assert found.status == "optimal"
    assert found.iterations == ITERATIONS
    torch.testing.assert_close(
        found.certificate.row_objectives, cold.certificate.row_objectives, rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("case", CASES)
def test_iterations_save_factorisations_and_change_no_answer(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (_problem(**arguments) for arguments in CASES[case])
    start = solve(replace(before, l1=150.0), ActiveSetSolver(), tol=TOL).start
    assert start is not None
    assert warm_start_pays(after, start.weights)
    with_iterations = solve(after, ActiveSetSolver(), tol=TOL, start=start)
    monkeypatch.setattr(active_set_module, "warm_start_pays", lambda problem, points: False)
    without = solve(after, ActiveSetSolver(), tol=TOL, start=start)
    cold = solve(after, ActiveSetSolver(), tol=TOL)
    for solution in (with_iterations, without):
        assert solution.status == "optimal"
        torch.testing.assert_close(
            solution.certificate.row_objectives,
            cold.certificate.row_objectives,
            rtol=1e-9,
            atol=0,
        )
    assert with_iterations.iterations < without.iterations


def test_iterations_are_left_out_where_they_do_not_pay() -> None:
    problem = _problem()
    sparse = torch.zeros_like(problem.cross)
    assert not warm_start_pays(problem, sparse)
    sparse[:, :20] = 1.0
    assert not warm_start_pays(problem, sparse)
    assert not warm_start_pays(replace(problem, l1=0.0), torch.ones_like(problem.cross))


def test_the_answer_itself_stays_where_it_is() -> None:
    problem = _problem()
    solution = solve(problem, ActiveSetSolver(), tol=TOL)
    scaled = ScaledProblem.of(problem)
    points = scaled.from_weights(solution.weights)
    state = warm_started(problem, scaled, points, 1.6)
    # Iterations are in float32.
    torch.testing.assert_close(state.sparse, points, rtol=1e-4, atol=1e-4 * float(points.max()))
    assert torch.equal(state.sparse != 0, points != 0)


def test_the_iterations_end_when_time_is_up() -> None:
    problem = _problem()
    scaled = ScaledProblem.of(problem)
    points = scaled.from_weights(torch.ones_like(problem.cross))
    asked: list[bool] = []

    def at_once() -> bool:
        asked.append(True)
        return True

    early = warm_started(problem, scaled, points, 1.6, time_is_up=at_once)
    assert len(asked) == 1
    assert not torch.equal(early.sparse, warm_started(problem, scaled, points, 1.6).sparse)


def test_a_start_that_explains_everything_has_no_gradient_to_balance() -> None:
    problem = replace(_problem(), l1=1e-4)
    weights = torch.linalg.solve(problem.gram, problem.cross.T).T.contiguous()
    solution = solve(problem, ActiveSetSolver(), start=Start(weights))
    assert solution.status == "optimal"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_factorisation_is_the_inverse_of_the_eigendecomposition(dtype: torch.dtype) -> None:
    problem = ScaledProblem.of(_problem(singular=True))
    values = torch.randn(3, FEATURES, dtype=torch.float64)
    ways = CholeskyInverse(problem.gram), EigenInverse(problem.gram)
    for rho in (0.5, 1e-3, 1e-3):
        for way in ways:
            way.prepare(rho, dtype)
        one, other = (way.multiply(values) for way in ways)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))
        constant = one.to(dtype)
        one, other = (way.step(constant, values.to(dtype)) for way in ways)
        tolerance = 1e-3 if dtype == torch.float32 else 1e-9
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
