"""Active-set steps: each part against a slow way to the same answer, the whole against the bank."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solver import Progress
from idl_cli.sim.solvers.line_search import first_crossing, line_minimum
from idl_cli.sim.solvers.polish import Incumbent
from idl_cli.sim.solvers.row_descent import polish_row
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.support import SupportFactor
from tests.sim.problem_bank import BANK, optimum

ROUND_OFF = 1e-9
"""Relative to the objective at zero: the bank's reference is no better."""


def _normal(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


def _starts(problem: RowRegression, seed: int) -> dict[str, Tensor]:
    draw = _normal(seed)
    zero = torch.zeros(problem.rows, problem.features, dtype=torch.float64)
    return {
        "zero": zero,
        "dense": draw(problem.rows, problem.features),
        "far outside the budget": 100 * draw(problem.rows, problem.features),
        "sparse": draw(problem.rows, problem.features) * (draw(problem.features) > 0.5),
    }


# -- exact line search -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_the_line_minimum_is_that_of_a_fine_grid(seed: int) -> None:
    draw = _normal(seed)
    root = draw(6, 8)
    gram, cross, kink = root @ root.T, 3 * draw(6), draw(6).abs()
    position, direction = draw(6), draw(6)

    def value(point: Tensor) -> float:
        return float(0.5 * point @ gram @ point - cross @ point + kink @ point.abs())

    slope = float((gram @ position - cross) @ direction + kink @ (position.sign() * direction))
    if slope >= 0:
        direction, slope = -direction, -slope
    found = line_minimum(position, direction, slope, float(direction @ gram @ direction), kink)
    least = min(value(position + t * direction) for t in torch.linspace(0, 1, 2001).tolist())
    # The grid misses the minimum by at most its spacing squared times the curvature, or by the
    # spacing times the slope at a kink.
    assert value(found) <= least + 1e-12
    assert value(found) >= least - 1e-3 * (abs(least) + abs(slope))


def test_a_minimum_on_a_breakpoint_is_exactly_zero() -> None:
    position = torch.tensor([0.3, 1.0], dtype=torch.float64)
    direction = torch.tensor([-1.0, 0.0], dtype=torch.float64)
    kink = torch.tensor([10.0, 0.0], dtype=torch.float64)
    found = line_minimum(position, direction, slope=-11.0, curvature=1.0, kink=kink)
    assert found.tolist() == [0.0, 1.0]


def test_the_first_crossing_is_the_nearest_sign_change() -> None:
    position = torch.tensor([1.0, -3.0, 2.0, 0.0], dtype=torch.float64)
    direction = torch.tensor([-2.0, 4.0, 5.0, -1.0], dtype=torch.float64)
    crossed = first_crossing(position, direction)
    assert crossed is not None
    assert crossed.tolist() == [0.0, -1.0, 4.5, -0.5]
    assert first_crossing(position, position) is None


# -- factor of a support ---------------------------------------------------------------------------


def test_dropping_features_equals_a_smaller_system() -> None:
    draw = _normal(0)
    root = draw(12, 20)
    gram, support, right = root @ root.T, torch.tensor([0, 2, 3, 5, 7, 8, 11]), draw(7, 2)
    factor = SupportFactor(gram[support][:, support], 1e-12)
    untouched = factor.branch()
    for dropped in ([1], [1, 4], [0, 6]):
        mask = torch.zeros(7, dtype=torch.bool)
        mask[dropped] = True
        factor.drop(mask)
    kept = torch.tensor([2, 3, 5])
    block = gram[support[kept]][:, support[kept]]
    expected = torch.zeros_like(right)
    expected[kept] = torch.linalg.solve(block, right[kept])
    torch.testing.assert_close(factor.solve(right), expected, rtol=1e-9, atol=1e-9)
    whole = torch.linalg.solve(gram[support][:, support], right)
    torch.testing.assert_close(untouched.solve(right), whole, rtol=1e-9, atol=1e-9)


def test_a_singular_block_is_solved_with_the_ridge_it_says() -> None:
    gram = torch.ones(4, 4, dtype=torch.float64)
    factor = SupportFactor(gram, 1e-20)
    right = torch.ones(4, 1, dtype=torch.float64)
    assert factor.ridge > 1e-20
    torch.testing.assert_close(gram @ factor.solve(right), right, rtol=1e-6, atol=0)


# -- whole rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["zero", "dense", "far outside the budget", "sparse"])
@pytest.mark.parametrize("name", BANK)
def test_rows_reach_the_optimum_from_any_start_and_never_rise(name: str, start: str) -> None:
    problem = BANK[name].regression
    scaled = ScaledProblem.of(problem)
    for row in range(problem.rows):
        alone = problem.select(torch.tensor([row]))
        unit = float(alone.target_square) + 1e-300
        first = scaled.from_weights(_starts(problem, row)[start])[row]
        values = []
        for passes in (0, 1, 2, 3, 100):
            point, used = polish_row(problem, scaled, row, first, max_passes=passes)
            assert used <= passes
            certificate = certify(alone, scaled.to_weights(point[None]))
            assert certificate.feasible
            values.append(certificate.objective)
        for before, after in pairwise(values):
            assert after <= before + 1e-12 * max(unit, before)
        least = float(BANK[name].objective(optimum(name))[row])
        assert values[-1] == pytest.approx(least, rel=1e-6, abs=ROUND_OFF * unit)


def _always(weights: Tensor, *, iteration: int | None = None) -> Progress:
    return Progress(1.0, 0.0, torch.zeros(len(weights), dtype=torch.bool), should_stop=False)


def test_a_float32_start_beyond_the_budget_does_not_look_better_than_the_optimum() -> None:
    bank = BANK["budget active"]
    problem = bank.regression
    assert problem.budget is not None
    scaled = ScaledProblem.of(problem)
    best = optimum("budget active")
    outside = scaled.from_weights(best * (1 + 3e-7)).float()
    incumbent = Incumbent(problem, scaled, outside)
    assert certify(problem, incumbent.weights).feasible
    incumbent.polish(outside, torch.arange(problem.rows), _always, iteration=0, max_passes=20)
    assert certify(problem, incumbent.weights).status == "optimal"


def test_answers_only_improve() -> None:
    problem = BANK["planted sparse"].regression
    scaled = ScaledProblem.of(problem)
    good = scaled.from_weights(optimum("planted sparse"))
    incumbent = Incumbent(problem, scaled, torch.zeros_like(good))
    incumbent.offer(good[[0, 2]], torch.tensor([0, 2]))
    incumbent.offer(2 * good, torch.arange(problem.rows))
    torch.testing.assert_close(incumbent.points[[0, 2]], good[[0, 2]], rtol=0, atol=0)
    before = certify(problem, torch.zeros_like(good)).row_objectives
    assert bool((certify(problem, incumbent.weights).row_objectives <= before).all())


def test_threads_are_restored_even_when_the_monitor_raises() -> None:
    problem = BANK["planted sparse"].regression
    scaled = ScaledProblem.of(problem)
    incumbent = Incumbent(problem, scaled, torch.zeros_like(scaled.cross))
    threads = torch.get_num_threads()

    def interrupt(weights: Tensor, *, iteration: int | None = None) -> Progress:
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        incumbent.polish(
            scaled.cross, torch.arange(problem.rows), interrupt, iteration=0, max_passes=1
        )
    assert torch.get_num_threads() == threads


def test_identical_features_share_a_row_s_budget_like_one() -> None:
    draw = _normal(3)
    feature = draw(1, 50)
    samples = torch.cat([feature, feature, draw(2, 50)])
    target = 2 * feature + 0.1 * draw(1, 50)

    def regression(rows: list[int], count: int) -> RowRegression:
        part = samples[rows]
        return RowRegression(
            part @ part.T,
            target @ part.T,
            target.square().sum(dim=1),
            l1=0.5,
            budget=RowBudget(count, 0.75),
        )

    objectives = []
    for problem in (regression([0, 1, 2, 3], 2), regression([0, 2, 3], 1)):
        scaled = ScaledProblem.of(problem)
        point, _ = polish_row(problem, scaled, 0, torch.zeros_like(scaled.cost), max_passes=50)
        objectives.append(certify(problem, scaled.to_weights(point[None])).objective)
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-9)
