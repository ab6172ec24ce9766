"""The judge: what it calls optimal is, and what is not is not called so."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.errors import ShapeError
from idl_cli.sim.regression.certificate import FEASIBILITY, certify, row_gaps
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.prox import prox_rows
from tests.sim.problem_bank import BANK, BankProblem, optimum

PENALISED = [name for name in BANK if BANK[name].l1 > 0]
UNPENALISED = [name for name in BANK if BANK[name].l1 == 0]
BOUND = ["budget active", "budget on all weights", "dead rows"]


def _feasible(bank: BankProblem, weights: Tensor) -> Tensor:
    return prox_rows(weights, 0.0, bank.regression.budget)


def _random_weights(bank: BankProblem, seed: int, size: float, density: float) -> Tensor:
    """Feasible weights whose products with the features have about ``size`` times unit scale."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(bank.targets), len(bank.samples))
    units = bank.samples.norm(dim=1)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights *= torch.rand(shape, generator=generator) < density
    return _feasible(bank, size * weights / torch.where(units > 0, units, 1.0))


def _round_off(bank: BankProblem) -> Tensor:
    return 1e-12 * bank.targets.square().sum(dim=1) + 1e-300


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(PENALISED),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 30.0]),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    share=st.sampled_from([0.0, 0.5, 0.999, 1.0]),
)
def test_the_gap_is_never_below_the_distance_to_the_optimum(
    name: str, seed: int, size: float, density: float, share: float
) -> None:
    bank = BANK[name]
    best = optimum(name)
    # From far away to all but optimal: a mixture of feasible points is feasible.
    weights = torch.lerp(_random_weights(bank, seed, size, density), best, share)
    certificate = certify(bank.regression, weights)
    excess = bank.objective(weights) - bank.objective(best)
    round_off = _round_off(bank)
    assert bool((certificate.row_gaps >= excess - round_off).all())
    objectives = bank.objective(weights)
    torch.testing.assert_close(
        certificate.row_objectives, objectives, rtol=1e-9, atol=float(round_off.max())
    )
    exact = torch.tensor([status == "optimal" for status in certificate.row_status])
    assert bool((excess <= 1e-6 * objectives + round_off)[exact].all())


@pytest.mark.parametrize("name", PENALISED)
def test_the_optimum_of_an_interior_point_method_is_recognised(name: str) -> None:
    certificate = certify(BANK[name].regression, optimum(name))
    assert certificate.status in ("optimal", "at_precision")
    assert certificate.feasible
    assert certificate.relative_gap is not None
    assert certificate.relative_gap <= 1e-6


@pytest.mark.parametrize("name", UNPENALISED)
def test_without_a_penalty_there_is_a_gap_too(name: str) -> None:
    bank = BANK[name]
    certificate = certify(bank.regression, optimum(name), tol=1e-6)
    assert bool(certificate.row_gaps.isfinite().all())
    assert certificate.status in ("optimal", "at_precision")
    zero = certify(bank.regression, 0 * optimum(name))
    assert zero.status == "inexact"
    if bank.radius is None:
        assert zero.kkt_residual == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("excess", [2 * FEASIBILITY, 1e-6, 0.1, 10.0])
def test_infeasible_weights_are_never_optimal(name: str, excess: float) -> None:
    # A lower objective than the optimum's, from outside the budget, earns nothing.
    bank = BANK[name]
    assert bank.radius is not None
    weights = optimum(name).clone()
    norms = weights[:, : bank.count].abs().sum(dim=1)
    row = int(norms.argmax())
    weights[row, : bank.count] *= bank.radius * (1 + excess) / float(norms[row])
    certificate = certify(bank.regression, weights)
    assert not certificate.feasible
    assert certificate.status == "inexact"
    assert row in certificate.inexact_rows
    assert certificate.inf_norm == pytest.approx(bank.radius * (1 + excess), rel=1e-12)


def test_an_overshoot_by_round_off_is_feasible() -> None:
    bank = BANK["budget active"]
    assert bank.radius is not None
    weights = optimum(bank.name).clone()
    weights[:, : bank.count] *= 1 + 0.5 * FEASIBILITY
    assert certify(bank.regression, weights).feasible


def test_uncorrelated_features_have_the_soft_threshold_as_optimum() -> None:
    cross = torch.tensor([[3.0, -0.5, 1.0, -4.0]], dtype=torch.float64)
    problem = RowRegression(
        torch.eye(4, dtype=torch.float64), cross, cross.square().sum(dim=1), l1=1.0
    )
    weights = torch.tensor([[2.0, 0.0, 0.0, -3.0]], dtype=torch.float64)
    certificate = certify(problem, weights)
    assert certificate.status == "optimal"
    assert certificate.relative_gap == 0.0
    assert certificate.kkt_residual == 0.0
    # ½(1² + ½² + 1² + 1²) + 1·(2 + 3)
    assert certificate.objective == 6.625
    assert certificate.nonzero_fraction == 0.5
    # With a budget of 2 on the first two, the optimum is the same; of 1, another.
    held = RowRegression(
        problem.gram, cross, problem.target_square, l1=1.0, budget=RowBudget(2, 2.0)
    )
    assert certify(held, weights).status == "optimal"
    assert certify(held, weights).budget_bound_rows == (0,)
    tight = RowRegression(
        problem.gram, cross, problem.target_square, l1=1.0, budget=RowBudget(2, 1.0)
    )
    moved = torch.tensor([[1.0, 0.0, 0.0, -3.0]], dtype=torch.float64)
    assert certify(tight, weights).status == "inexact"
    assert certify(tight, moved).status == "optimal"
    assert certify(tight, moved).relative_gap == 0.0


def test_the_figures_of_a_stage_are_those_of_its_rows() -> None:
    bank = BANK["dead rows"]
    weights = _random_weights(bank, 3, 0.3, 0.5)
    weights[1] = 0.0
    certificate = certify(bank.regression, weights)
    gaps, objectives = certificate.row_gaps, certificate.row_objectives
    assert certificate.objective == pytest.approx(float(objectives.sum()))
    assert certificate.relative_gap == pytest.approx(float(gaps.sum() / objectives.sum()))
    ratio = gaps[objectives > 0] / objectives[objectives > 0]
    assert certificate.worst_row_gap == pytest.approx(float(ratio.max()))
    assert certificate.dead_rows == (1, 3)
    assert certificate.row_status[1] in ("optimal", "at_precision")
    assert certificate.inexact_rows == (0, 2, 3, 4)


def test_a_row_that_is_not_finite_has_failed() -> None:
    bank = BANK["planted sparse"]
    for bad in (math.nan, math.inf):
        weights = optimum(bank.name).clone()
        weights[2, 5] = bad
        certificate = certify(bank.regression, weights)
        assert certificate.status == "failed"
        assert certificate.row_status[2] == "failed"
        assert certificate.row_status[0] == "optimal"


def test_one_inexact_row_among_exact_ones_is_named() -> None:
    # The sum of the gaps is dominated by large rows: a small row must not hide behind them.
    bank = BANK["targets of units 1e6 apart"]
    weights = optimum(bank.name).clone()
    weights[0] = 0.5 * weights[0] + 1e-4
    certificate = certify(bank.regression, weights)
    assert certificate.relative_gap is not None
    assert certificate.relative_gap < 1e-6
    assert certificate.status == "inexact"
    assert certificate.inexact_rows == (0,)


def test_units_do_not_change_the_verdict() -> None:
    bank = BANK["budget active"]
    weights = torch.lerp(_random_weights(bank, 0, 1.0, 1.0), optimum(bank.name), 0.99)
    plain = certify(bank.regression, weights)
    factor = 1e4
    scaled = BankProblem(
        "", factor * bank.samples, factor * bank.targets, factor**2, radius=bank.radius
    )
    other = certify(scaled.regression, weights)
    assert other.relative_gap == pytest.approx(plain.relative_gap, rel=1e-6)
    assert other.kkt_residual == pytest.approx(plain.kkt_residual, rel=1e-6)
    assert other.row_status == plain.row_status


def test_cheap_gaps_during_a_solve_are_the_certificate_s() -> None:
    bank = BANK["elastic net"]
    weights = _random_weights(bank, 1, 0.3, 0.5)
    cheap = row_gaps(bank.regression, weights, tol=1e-6)
    full = certify(bank.regression, weights, tol=1e-6)
    assert torch.equal(cheap.gap, full.row_gaps)
    assert torch.equal(cheap.objective, full.row_objectives)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must have shape \(5, 14\) \(rows, features\)"):
        certify(BANK["planted sparse"].regression, torch.zeros(14, 5))
