"""A λ of each row's own: no row's answer depends on the units of another, whoever solves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share
from idl_cli.errors import ArgumentError, ConvergenceWarning, PoorFitWarning, ShapeError
from idl_cli.sim.fit.row_fit import row_r2
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import (
    ActiveSetSolver,
    ADMMMultiGPUSolver,
    ADMMSolver,
    BaseSolver,
    CVXSolver,
    ProjectedGDLowRankSolver,
)
from idl_cli.sim.statistics.column_blocks import ColumnBlockStatistics
from idl_cli.sim.statistics.dense import SufficientStatistics
from tests.sim.ranks import run_ranks

SOLVERS = [
    ActiveSetSolver(),
    ADMMSolver(),
    ADMMMultiGPUSolver(processes=1),
    CVXSolver(),
    ProjectedGDLowRankSolver(),
]
N, P, ROWS, SAMPLES = 6, 5, 4, 60


def _data(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, N, generator=generator, dtype=torch.float64).relu()
    u = torch.randn(SAMPLES, P, generator=generator, dtype=torch.float64)
    weights = torch.randn(N + P, ROWS, generator=generator, dtype=torch.float64)
    noise = torch.randn(SAMPLES, ROWS, generator=generator, dtype=torch.float64)
    return x, u, torch.cat([x, u], dim=1) @ weights + 0.1 * noise


def _problem(
    units: Tensor, *, penalty: float = 1e-2, budget: RowBudget | None = None, seed: int = 0
) -> RowRegression:
    x, u, y = _data(seed)
    statistics = SufficientStatistics(N, P, {"Y": ROWS})
    statistics.update(x, u, {"Y": y * units})
    return stage_problem(statistics, "Y", penalty=penalty, scale="relative", budget=budget)


def _solved(problem: RowRegression, solver: BaseSolver) -> Solution:
    return solve(problem, solver, tol=1e-9, dtype=torch.float64)


ONES = torch.ones(ROWS, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("exponent", [-40, 40])
def test_a_unit_that_is_a_power_of_two_scales_the_weights(
    solver: BaseSolver, exponent: int
) -> None:
    units = ONES * 2.0**exponent
    plain, scaled = _solved(_problem(ONES), solver), _solved(_problem(units), solver)
    assert scaled.status == plain.status == "optimal"
    # A row of units near 1 keeps them, another is solved in one of its own. MKL on an Intel
    # processor then sums in another order, but for MKL_CBWR=COMPATIBLE, where the bits are equal.
    assert torch.equal(scaled.weights == 0, plain.weights == 0)
    torch.testing.assert_close(scaled.weights / units[:, None], plain.weights, atol=1e-14, rtol=0)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    exponents=st.lists(st.integers(-300, 300), min_size=ROWS, max_size=ROWS),
    solver=st.sampled_from(SOLVERS),
    penalty=st.sampled_from([0.0, 1e-4]),
)
@example(exponents=[80, -80, 0, -400], solver=ActiveSetSolver(), penalty=1e-5)
def test_rows_of_any_units_beside_each_other_are_solved_to_the_same_bits(
    exponents: list[int], solver: BaseSolver, penalty: float
) -> None:
    # Below 2**30 a row keeps its unit, and rounding may differ.
    far = [power + (100 if power >= 0 else -100) for power in exponents]
    units = torch.ldexp(ONES, torch.tensor(far))
    many, one = (
        _solved(_problem(each, penalty=penalty), solver) for each in (units, 2.0**100 * ONES)
    )
    assert torch.equal(many.weights / units[:, None], one.weights / 2.0**100)
    assert many.status == one.status


@settings(max_examples=6, deadline=None, derandomize=True)
@given(exponents=st.lists(st.integers(-12, 12), min_size=ROWS, max_size=ROWS))
def test_supports_and_r2_do_not_depend_on_units(exponents: list[int]) -> None:
    units = 10.0 ** torch.tensor(exponents, dtype=torch.float64)
    found = [_solved(_problem(each), ActiveSetSolver()) for each in (ONES, units)]
    assert torch.equal(found[0].weights != 0, found[1].weights != 0)
    x, u, y = _data()
    r2 = []
    for each, unit in zip(found, (ONES, units), strict=True):
        residual = y * unit - torch.cat([x, u], dim=1) @ each.weights.T
        r2.append(1 - residual.square().sum(dim=0) / (y * unit).square().sum(dim=0))
    torch.testing.assert_close(r2[0], r2[1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("radius", [None, 0.4])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_each_row_is_the_problem_of_its_own_lambda(
    solver: BaseSolver, radius: float | None
) -> None:
    budget = None if radius is None else RowBudget(N, radius)
    units = torch.tensor([1.0, 3.0, 0.2, 7.0], dtype=torch.float64)
    problem = _problem(units, budget=budget)
    found = _solved(problem, solver)
    assert found.status == "optimal"
    for row in range(ROWS):
        alone = replace(
            problem.select(torch.tensor([row])), l1=1e-2 * float(problem.cross[row].abs().max())
        )
        single = _solved(alone, ActiveSetSolver())
        torch.testing.assert_close(found.weights[row], single.weights[0], rtol=1e-6, atol=1e-7)


def test_lambda_one_is_where_each_row_becomes_zero() -> None:
    units = torch.tensor([1e4, 1.0, 1e-4, 1e-9], dtype=torch.float64)
    at = _solved(_problem(units, penalty=1.0), ActiveSetSolver())
    assert not at.weights.any()
    below = _solved(_problem(units, penalty=0.98), ActiveSetSolver())
    assert (below.weights != 0).any(dim=1).all()


def test_a_dead_row_among_others_is_solved_by_zero() -> None:
    units = torch.tensor([1.0, 0.0, 1e-3, 1e3], dtype=torch.float64)
    problem = _problem(units)
    assert bool((problem.penalties > 0).all())
    for solver in SOLVERS:
        found = _solved(problem, solver)
        assert found.status == "optimal"
        assert not found.weights[1].any()
        assert found.certificate.dead_rows == (1,)
    nothing = _problem(0 * units)
    assert not nothing.is_penalised
    assert not _solved(nothing, ActiveSetSolver()).weights.any()


def test_a_start_at_another_lambda_changes_no_answer() -> None:
    units = torch.tensor([1e6, 1.0, 1e-6, 1e-3], dtype=torch.float64)
    near = _problem(units, penalty=3e-2)
    for solver in (ActiveSetSolver(), ADMMSolver()):
        start = _solved(near, solver).start
        target = replace(near, l1=near.penalties / 3)
        again = solve(target, solver, tol=1e-9, dtype=torch.float64, start=start)
        anew = _solved(target, solver)
        assert again.status == anew.status == "optimal"
        torch.testing.assert_close(
            again.weights / units[:, None], anew.weights / units[:, None], rtol=1e-6, atol=1e-8
        )


def test_a_low_rank_answer_weighs_each_row_by_its_own_lambda() -> None:
    solver = ProjectedGDLowRankSolver(rank=2, max_iter=3000)
    # One λ of all rows and the same λ row by row are one problem.
    problem = _problem(ONES, budget=RowBudget(N, 0.5))
    one = replace(problem, l1=0.7)
    each = replace(problem, l1=torch.full((ROWS,), 0.7, dtype=torch.float64))
    assert torch.equal(_solved(one, solver).weights, _solved(each, solver).weights)
    heavy = replace(each, l1=torch.tensor([0.7, 1e6, 0.7, 0.7], dtype=torch.float64))
    weights = _solved(heavy, solver).weights
    assert not weights[1].any()
    assert weights[0].any()


def _blocked(group: Group, units: Tensor) -> tuple[Tensor, str, Tensor]:
    x, u, y = _data()
    own = share(SAMPLES, group.rank, group.size)
    statistics = ColumnBlockStatistics(N, P, {"Y": ROWS}, group=group)
    statistics.update(x[own], u[own], {"Y": (y * units)[own]})
    problem = stage_problem(
        statistics, "Y", penalty=1e-2, scale="relative", budget=RowBudget(N, 0.4)
    )
    found = solve(problem, ADMMMultiGPUSolver(), tol=1e-9, group=group, dtype=torch.float64)
    return (
        found.weights,
        found.status,
        row_r2(problem, torch.zeros_like(problem.target_square), count=SAMPLES, has_constant=False),
    )


def test_processes_that_share_the_rows_have_each_row_s_lambda() -> None:
    units = torch.tensor([1e3, 1.0, 0.0, 1e-3], dtype=torch.float64)
    alone = _solved(_problem(units, budget=RowBudget(N, 0.4)), ADMMSolver())
    for weights, status, r2 in run_ranks(2, _blocked, units):
        assert status == "optimal"
        assert len(r2) == ROWS
        scale = torch.where(units > 0, units, 1.0)[:, None]
        torch.testing.assert_close(weights / scale, alone.weights / scale, rtol=1e-6, atol=1e-8)


def test_own_processes_get_each_row_s_lambda() -> None:
    units = torch.tensor([1e3, 1.0, 1e-2, 1e-3], dtype=torch.float64)
    problem = _problem(units)
    found = _solved(problem, ADMMMultiGPUSolver(processes=2))
    alone = _solved(problem, ADMMSolver())
    torch.testing.assert_close(
        found.weights / units[:, None], alone.weights / units[:, None], rtol=1e-6, atol=1e-8
    )


def test_penalties_that_are_none_are_refused() -> None:
    problem = _problem(ONES)
    with pytest.raises(ArgumentError, match="must be positive in all of them"):
        replace(problem, l1=torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    with pytest.raises(ShapeError, match="l1 must be float64"):
        replace(problem, l1=torch.ones(ROWS - 1, dtype=torch.float64))


# -- what a training says of its rows --------------------------------------------------------------


def _teacher() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        for row, unit in enumerate((1e4, 1.0, 1e-4)):
            network[2].weight[row] *= unit
            network[2].bias[row] *= unit
    return network


def test_outputs_of_unlike_units_are_all_learnt() -> None:
    network = _teacher()
    inputs = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
    sim = SIM()
    model = sim.train(model=network, dataloader=[inputs[:400], inputs[400:]])
    with torch.no_grad():
        y, found = network(inputs).double(), model(inputs).double()
    r2 = 1 - (y - found).square().sum(dim=0) / (y - y.mean(dim=0)).square().sum(dim=0)
    assert bool((r2 > 1 - 1e-6).all())
    stage = sim.report["cd"]
    assert stage["worst_row_r2"] == pytest.approx(float(r2.min()), abs=1e-7)  # float32 weights
    assert stage["poor_rows"] == 0


def test_an_absolute_lambda_keeps_its_meaning_and_names_the_outputs_it_loses() -> None:
    network = _teacher()
    inputs = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
    sim = SIM(lambda_scale="absolute", lambda_z=1e-6, lambda_y=1.0)
    with pytest.warns(PoorFitWarning, match=r"\[C D\] fits 1 of 3 rows .* output 2 .* lambda_y"):
        sim.train(model=network, dataloader=[inputs])
    assert sim.report["cd"]["status"] == "optimal"
    assert sim.report["cd"]["lambda"] == 1.0
    assert sim.report["cd"]["worst_row_r2"] < 0.9
    assert sim.report["cd"]["poor_rows"] == 1


def test_a_poor_fit_names_layer_and_unit() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    inputs = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    with pytest.warns(PoorFitWarning) as caught:
        SIM(lambda_z=0.5, lambda_y=1e-6).train(model=network, dataloader=[inputs])
    text = "".join(str(each.message) for each in caught)
    assert "unit" in text
    assert "of '3'" in text


def test_r2_is_that_of_the_samples() -> None:
    x, u, y = _data()
    u[:, -1] = 1.0
    y = y + 100.0  # a mean that an uncentred figure would call explained
    statistics = SufficientStatistics(N, P, {"Y": ROWS})
    statistics.update(x, u, {"Y": y})
    problem = stage_problem(statistics, "Y", penalty=0.05, scale="relative")
    weights = _solved(problem, ActiveSetSolver()).weights
    residual = (y - torch.cat([x, u], dim=1) @ weights.T).square().sum(dim=0)
    expected = 1 - residual / (y - y.mean(dim=0)).square().sum(dim=0)
    found = row_r2(problem, residual, count=SAMPLES, has_constant=True)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_no_row_of_a_solve_that_ran_out_is_called_solved() -> None:
    units = torch.tensor([1e6, 1.0, 1e-6, 1.0], dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="4 of 4 rows"):
        found = solve(
            _problem(units), ProjectedGDLowRankSolver(max_iter=1, check_every=1), tol=1e-9
        )
    assert found.status == "inexact"
