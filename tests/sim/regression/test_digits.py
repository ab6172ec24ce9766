"""Figures that rounding made up are not certified: flat directions, offsets, extreme units."""

import copy
import math
import warnings
from pathlib import Path

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.errors import ArgumentError, NonFiniteError
from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.solvers import (
    ActiveSetSolver,
    ADMMSolver,
    CVXSolver,
    ProjectedGDLowRankSolver,
)
from idl_cli.sim.statistics.dense import SufficientStatistics
from tests.sim.problem_bank import BankProblem, _row_optimum

SOLVERS = [ActiveSetSolver(), ADMMSolver(max_iter=2000), CVXSolver()]
CERTIFIED = ("optimal", "at_precision")


def _statistics(features: Tensor, targets: Tensor, states: int = 0) -> SufficientStatistics:
    """Of features (m, D), the first of them states, and targets (m, rows)."""
    statistics = SufficientStatistics(states, features.shape[1] - states, {"Z": targets.shape[1]})
    statistics.update(features[:, :states], features[:, states:], {"Z": targets})
    return statistics


def _normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _exact(features: Tensor, target: Tensor, weights: Tensor, l1: float) -> float:
    """P(w) of one row in extended precision."""
    s, z, w = (each.numpy().astype(np.longdouble) for each in (features, target, weights))
    return float(np.square(s @ w - z).sum() / 2 + l1 * np.abs(w).sum())


def _least_squares(features: Tensor, target: Tensor) -> float:
    answer = np.linalg.lstsq(features.numpy(), target.numpy(), rcond=None)[0]
    return _exact(features, target, torch.from_numpy(answer), 0.0)


def _offset(size: float) -> tuple[Tensor, Tensor]:
    """Two features near ``size`` and a constant; a target (200, 1) of what varies."""
    varying, noise = _normal(1, 200, 2), 0.01 * _normal(2, 200, 1)
    features = torch.cat([size + varying, torch.ones(200, 1, dtype=torch.float64)], dim=1)
    return features, (features[:, :2] - size) @ torch.tensor([[1.0], [0.5]]).double() + noise


# -- no penalty --------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [1e-3, 1e-6])
@pytest.mark.parametrize("solver", [*SOLVERS, ProjectedGDLowRankSolver(max_iter=500)])
def test_a_flat_direction_is_not_taken_for_an_optimum(apart: float, solver: BaseSolver) -> None:
    common, difference = _normal(3, 200, 1), _normal(4, 200, 1)
    features = torch.cat([common + apart * difference, common - apart * difference], dim=1)
    target = common + difference + 0.01 * _normal(5, 200, 1)
    problem = stage_problem(_statistics(features, target), "Z", penalty=0.0)
    solution = solve(problem, solver, warn=False)
    found = _exact(features, target[:, 0], solution.weights[0], 0.0)
    best = _least_squares(features, target[:, 0])
    assert solution.status not in CERTIFIED or found <= best * (1 + 2e-6)
    if apart == 1e-3 and not isinstance(solver, ProjectedGDLowRankSolver):
        assert solution.status == "optimal"


def test_the_gap_without_a_penalty_is_the_distance_to_least_squares() -> None:
    features, target = _normal(6, 50, 7), _normal(7, 50, 1)
    features = features * torch.logspace(-5, 5, 7, dtype=torch.float64)
    problem = stage_problem(_statistics(features, target), "Z", penalty=0.0)
    best = torch.linalg.lstsq(features, target).solution.T
    lowest = _least_squares(features, target[:, 0])
    for error in (1e-6, 1e-4):
        weights = best * (1 + error * _normal(8, 1, 7))
        gap = _exact(features, target[:, 0], weights[0], 0.0) - lowest
        certificate = certify(problem, weights, tol=1e-6)
        if certificate.status == "inexact":
            # Rows that are hopeless are told so at the price of a product: their gap is a bound.
            assert float(certificate.row_gaps) >= gap * (1 - 1e-6)
        else:
            assert float(certificate.row_gaps) == pytest.approx(gap, rel=1e-3, abs=1e-13 * lowest)


# -- offsets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e4, 1e5, 1e6])
@pytest.mark.parametrize("error", [1.0, 30.0])
def test_a_wrong_intercept_is_never_at_precision(size: float, error: float) -> None:
    features, target = _offset(size)
    wrong = torch.tensor([[1.0, 0.5, error - 1.5 * size]], dtype=torch.float64)
    statistics = _statistics(features, target)
    with_shift = stage_problem(statistics, "Z", penalty=1e-9)
    without = RowRegression(
        features.T @ features, target.T @ features, target.square().sum(dim=0), 1e-9
    )
    expected = _exact(features, target[:, 0], wrong[0], 1e-9)
    assert certify(with_shift, wrong).objective == pytest.approx(expected, rel=1e-9)
    for problem in (with_shift, without):
        assert certify(problem, wrong).status == "inexact"


@pytest.mark.parametrize("size", [1e4, 1e6])
@pytest.mark.parametrize("penalty", [0.0, 1e-9, 1e-3, 10.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_offsets_cost_no_digits(size: float, penalty: float, solver: BaseSolver) -> None:
    features, target = _offset(size)
    problem = stage_problem(_statistics(features, target), "Z", penalty=penalty)
    solution = solve(problem, solver, warn=False)
    found = _exact(features, target[:, 0], solution.weights[0], penalty)
    assert solution.certificate.objective == pytest.approx(found, rel=1e-9)
    if penalty <= 1e-9:
        assert solution.status == "optimal"
    if penalty == 0:
        assert found <= _least_squares(features, target[:, 0]) * (1 + 1e-6)
    # Nearby weights are no better: the objective is convex.
    for step in torch.eye(3, dtype=torch.float64):
        for length in (1e-3, -1e-3, 1e-5, -1e-5):
            moved = solution.weights[0] + length * (step - size * step[:2].sum() * _CONSTANT)
            other = _exact(features, target[:, 0], moved, penalty)
            assert solution.status not in CERTIFIED or found <= other * (1 + 1e-6)


_CONSTANT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def test_offsets_are_taken_out_alike_however_samples_are_batched_and_merged(
    tmp_path: Path,
) -> None:
    features, target = _offset(1e5)
    whole = _statistics(features, target)
    assert whole.offsets is not None
    batched = SufficientStatistics(0, 3, {"Z": 1})
    for batch in (slice(0, 30), slice(30, 31), slice(31, 200)):
        batched.update(features[batch, :0], features[batch], {"Z": target[batch]})
    merged = SufficientStatistics(0, 3, {"Z": 1})
    for part in (slice(100, 200), slice(0, 100)):
        merged.merge(_statistics(features[part], target[part]))
    whole.save(tmp_path / "statistics.safetensors")
    loaded = SufficientStatistics.load(tmp_path / "statistics.safetensors")
    weights = torch.tensor([[1.0, 0.5, 0.1 - 1.5e5]]).double()
    expected = _exact(features, target[:, 0], weights[0], 0.0)
    for statistics in (whole, batched, merged, loaded):
        problem = stage_problem(statistics, "Z", penalty=0.0)
        assert certify(problem, weights).objective == pytest.approx(expected, rel=1e-9)
        torch.testing.assert_close(problem.gram, features.T @ features, rtol=1e-13, atol=0.0)
        torch.testing.assert_close(problem.cross, target.T @ features, rtol=1e-7, atol=1e-7)


def test_rescaled_states_keep_their_digits() -> None:
    features, target = _offset(1e6)
    scale = torch.tensor([4.0, 0.3]).double()
    statistics = _statistics(features, target.expand(-1, 2), states=2).rescaled(scale)
    rescaled = features / torch.cat([scale, torch.ones(1).double()])
    weights = torch.tensor([[0.9, 0.1, -5.0], [0.2, 0.4, 3.0]]).double()
    certificate = certify(stage_problem(statistics, "Z", penalty=0.0), weights)
    for row in range(2):
        expected = _exact(rescaled, target[:, 0] / scale[row], weights[row], 0.0)
        assert float(certificate.row_objectives[row]) == pytest.approx(expected, rel=1e-9)


def test_data_without_offsets_are_summed_as_they_are() -> None:
    features = torch.cat([_normal(9, 40, 3), torch.ones(40, 1).double()], dim=1)
    statistics = _statistics(features, _normal(10, 40, 2))
    assert statistics.offsets is None
    torch.testing.assert_close(statistics.gram, features.T @ features, rtol=1e-14, atol=1e-14)


# -- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "targets"), [(1.0, 1e20), (1.0, 1e30), (1e-50, 1.0), (1e30, 1e-50), (1e-50, 1e30)]
)
@pytest.mark.parametrize("solver", [*SOLVERS, ProjectedGDLowRankSolver()])
def test_units_do_not_change_the_answer(
    features: float, targets: float, solver: BaseSolver
) -> None:
    s = _normal(11, 60, 20)
    z = s[:, :3] + 0.1 * _normal(12, 60, 3)

    def answer(feature: float, target: float) -> Solution:
        a, b = s * feature, z * target
        cross = b.T @ a
        problem = RowRegression(
            a.T @ a,
            cross,
            b.square().sum(dim=0),
            0.1 * float(cross.abs().max()),
            budget=RowBudget(8, 0.7 * target / feature),
        )
        return solve(problem, solver, dtype=torch.float64, tol=1e-9, warn=False)

    plain, scaled = answer(1.0, 1.0), answer(features, targets)
    assert plain.status == scaled.status == "optimal"
    assert scaled.certificate.relative_gap <= 1e-9
    expected = plain.certificate.objective * targets**2
    assert scaled.certificate.objective == pytest.approx(expected, rel=1e-8)
    assert scaled.history[-1].objective == pytest.approx(expected, rel=1e-8)


def test_weights_that_the_dtype_cannot_hold_are_no_answer() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = RowRegression(one * 1e-60, one * 1e-10, torch.ones(1).double() * 1e40, 1e-12)
    with pytest.raises(NonFiniteError, match=r"largest number of float32: choose dtype=float64"):
        solve(problem, CVXSolver(), dtype=torch.float32, warn=False)
    assert float(solve(problem, CVXSolver(), dtype=torch.float64).stored) == pytest.approx(9.9e49)


# -- a budget ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1e-10, 1e-9, 1e-8, 1.0])
def test_feasibility_is_relative_to_the_budget(kappa: float) -> None:
    cross = torch.tensor([[5.0, 4.0, 3.0]]).double()
    problem = RowRegression(
        torch.eye(3).double(),
        cross,
        torch.tensor([60.0]).double(),
        1e-3,
        budget=RowBudget(3, kappa),
    )
    for excess, feasible in ((0.0, True), (5e-10, True), (3e-9, False), (0.09, False)):
        weights = torch.tensor([[kappa * (1 + excess), 0.0, 0.0]], dtype=torch.float64)
        certificate = certify(problem, weights)
        assert certificate.feasible is feasible
        assert (certificate.status == "inexact") is not feasible


# -- whatever the data -------------------------------------------------------------------------


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 3.0, 12.0]),
    offset=st.sampled_from([0.0, 1e3, 1e6]),
    samples=st.sampled_from([4, 30]),
    duplicated=st.booleans(),
    penalty=st.sampled_from([0.0, 1e-12, 1e-6, 1e-2]),
    kappa=st.sampled_from([None, 1e-10, 1e-3, 10.0]),
)
def test_what_is_certified_is_optimal(
    seed: int,
    spread: float,
    offset: float,
    samples: int,
    duplicated: bool,
    penalty: float,
    kappa: float | None,
) -> None:
    varying = _normal(seed, samples, 5)
    if duplicated:
        varying[:, 3] = varying[:, 1]
    scales = 10 ** torch.linspace(-spread, spread, 5, dtype=torch.float64)
    features = torch.cat([(varying + offset) * scales, torch.ones(samples, 1).double()], dim=1)
    target = varying[:, :1] - varying[:, 2:3] + 0.1 * _normal(seed + 1, samples, 1)
    statistics = _statistics(features, target, states=2)
    l1 = penalty * float((target.T @ features).abs().max())
    budget = None if kappa is None else RowBudget(2, kappa)
    problem = stage_problem(statistics, "Z", penalty=l1, budget=budget)
    solution = solve(problem, ActiveSetSolver(attempts=2, warm_iterations=100), warn=False)
    weights = solution.weights[0]
    if solution.status not in CERTIFIED:
        return
    found = _exact(features, target[:, 0], weights, l1)
    if kappa is not None:
        assert float(weights[:2].abs().sum()) <= kappa * (1 + 1e-9)
    bank = BankProblem("", features.T, target.T, l1, radius=kappa, count=2)
    best = _reference(bank, kappa, l1)
    units = features.norm(dim=0)
    length = float(target.norm())
    floor = 1e-12 * (length**2 + float((weights.abs() * units).sum()) * length)
    assert found <= best * (1 + 2e-6) + floor


def _reference(bank: BankProblem, kappa: float | None, l1: float) -> float:
    """The objective of an interior-point answer, shrunk into the budget; of lstsq where exact."""
    features, target = bank.samples.T, bank.targets[0]
    if kappa is None and l1 == 0:
        return _least_squares(features / features.norm(dim=0), target)
    units = bank.samples.norm(dim=1).numpy()
    try:
        with warnings.catch_warnings():
            # An inaccurate answer is feasible all the same, so that the optimum is not above it.
            warnings.simplefilter("ignore", UserWarning)
            answer = torch.from_numpy(_row_optimum(bank, 0, units, float(target.norm())))
    except (cvxpy.SolverError, TypeError):
        return math.inf
    if not bool(answer.isfinite().all()):
        return math.inf
    if kappa is not None:
        answer[:2] /= max(float(answer[:2].abs().sum()) / kappa, 1.0)
    return _exact(features, target, answer, l1)


# -- what is refused ---------------------------------------------------------------------------


def test_impossible_squares_are_refused_by_name() -> None:
    gram, cross = torch.eye(3).double(), torch.ones(2, 3).double()
    square = torch.ones(2).double()

    def changed(entry: tuple[int, int], value: float) -> Tensor:
        other = copy.deepcopy(gram)
        other[entry] = value
        return other

    with pytest.raises(NonFiniteError, match=r"gram holds NaN or infinity \(first at \[1, 2\]\)"):
        RowRegression(changed((1, 2), math.nan), cross, square, 1.0)
    with pytest.raises(ArgumentError, match=r"of feature 2 is -0\.5"):
        RowRegression(changed((2, 2), -0.5), cross, square, 1.0)
    with pytest.raises(ArgumentError, match="the squares of feature 1 underflow"):
        RowRegression(changed((1, 1), 1e-320), cross, square, 1.0)
    with pytest.raises(ArgumentError, match="target_square of row 1 is -1"):
        RowRegression(gram, cross, torch.tensor([1.0, -1.0]).double(), 1.0)
    rounding = RowRegression(changed((2, 2), -1e-17), cross, square, 0.5)
    assert certify(rounding, torch.zeros(2, 3)).status == "inexact"
