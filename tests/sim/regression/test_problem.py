"""The row problem: its units of λ, its zero solution, and what it refuses."""

import dataclasses

import pytest
import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, NonFiniteError, ShapeError
from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.problem import LambdaScale, RowBudget, RowRegression
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.statistics.dense import SufficientStatistics
from tests.sim.problem_bank import BANK, planted


def _statistics(samples: int = 40) -> SufficientStatistics:
    generator = torch.Generator().manual_seed(0)

    def normal(columns: int) -> Tensor:
        return torch.randn(samples, columns, generator=generator)

    statistics = SufficientStatistics(3, 2, {"Z": 3, "Y": 2})
    statistics.update(normal(3), normal(2), {"Z": normal(3), "Y": normal(2)})
    return statistics


@pytest.mark.parametrize("radius", [None, 1e-3, 100.0])
def test_all_zero_is_optimal_from_lambda_max_on_and_not_below(radius: float | None) -> None:
    bank = planted("", 1, radius=radius)
    limit = bank.regression.lambda_max
    zero = torch.zeros_like(bank.regression.cross)
    at = certify(dataclasses.replace(bank.regression, l1=limit), zero)
    assert at.status == "optimal"
    assert at.relative_gap == 0.0
    below = certify(dataclasses.replace(bank.regression, l1=0.9 * limit), zero, tol=1e-9)
    assert below.status == "inexact"


def test_an_elastic_net_does_not_move_lambda_max() -> None:
    bank = planted("", 2)
    assert planted("", 2, l2=3.0).regression.lambda_max == bank.regression.lambda_max


def test_units_of_lambda() -> None:
    statistics = _statistics()
    one = torch.ones(3, dtype=torch.float64)
    limits = statistics.cross["Z"].abs().amax(dim=1)
    units: dict[LambdaScale, torch.Tensor] = {
        "absolute": one,
        "per_sample": 40.0 * one,
        "relative": limits,
    }
    for scale, unit in units.items():
        problem = stage_problem(statistics, "Z", penalty=0.25, scale=scale)
        torch.testing.assert_close(problem.penalties, 0.25 * unit, rtol=1e-15, atol=0)


def test_each_target_has_its_own_rows() -> None:
    statistics = _statistics()
    problem = stage_problem(statistics, "Y", penalty=1.0)
    assert (problem.rows, problem.features) == (2, 5)
    assert torch.equal(problem.cross, statistics.cross["Y"])
    with pytest.raises(
        ArgumentError, match=r"'X' is not in the statistics; there are \['Y', 'Z'\]"
    ):
        stage_problem(statistics, "X", penalty=1.0)
    with pytest.raises(ArgumentError, match="choose absolute, per_sample or relative"):
        stage_problem(statistics, "Y", penalty=1.0, scale="log")  # type: ignore[arg-type]


def test_rows_are_problems_of_their_own() -> None:
    problem = BANK["elastic net"].regression
    weights = torch.randn(5, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights *= 0.01
    whole = certify(problem, weights)
    for row in range(problem.rows):
        part = certify(problem.select(torch.tensor([row])), weights[row : row + 1])
        torch.testing.assert_close(part.row_gaps, whole.row_gaps[row : row + 1])
        torch.testing.assert_close(part.row_objectives, whole.row_objectives[row : row + 1])


def test_the_elastic_net_leaves_the_gram_matrix_alone() -> None:
    problem = BANK["elastic net"].regression
    before = problem.gram.clone()
    expected = before + 5.0 * torch.eye(problem.features, dtype=torch.float64)
    assert torch.equal(problem.hessian, expected)
    assert torch.equal(problem.gram, before)


def test_row_norms_are_those_of_the_budgeted_weights() -> None:
    weights = torch.tensor([[1.0, -2.0, 4.0]], dtype=torch.float64)
    gram, cross = torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    problem = RowRegression(gram, cross, cross[:, 0], 1.0, budget=RowBudget(2, 0.5))
    assert problem.row_norms(weights).tolist() == [3.0]
    assert dataclasses.replace(problem, budget=None).row_norms(weights).tolist() == [0.0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"l1": -1.0}, ArgumentError, "l1=-1.0"),
        ({"l1": float("nan")}, ArgumentError, "l1=nan"),
        ({"l2": float("inf")}, ArgumentError, "l2=inf"),
        ({"budget": RowBudget(15, 1.0)}, ArgumentError, "15 entries of 14"),
        ({"gram": torch.eye(13, dtype=torch.float64)}, ShapeError, "cross must be float64"),
        ({"gram": torch.eye(14)}, ShapeError, "gram must be float64"),
        ({"target_square": torch.full((5,), torch.nan).double()}, NonFiniteError, "target_square"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_what_is_no_problem_is_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(BANK["planted sparse"].regression, **changes)


@pytest.mark.parametrize(
    ("count", "radius"), [(0, 1.0), (1, 0.0), (1, -0.5), (1, float("nan")), (1, float("inf"))]
)
def test_a_budget_is_positive(count: int, radius: float) -> None:
    with pytest.raises(ArgumentError, match="RowBudget"):
        RowBudget(count, radius)
