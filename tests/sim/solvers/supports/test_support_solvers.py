"""Rows with a limit on non-zeros, against exhaustive search."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, IgnoredOptionWarning, ShapeError
from idl_cli.sim.regression.limited import LimitedForm
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.regression.support_bound import support_bound
from idl_cli.sim.solvers import (
    ActiveSetSolver,
    BackwardEliminationSolver,
    LeastSquareSolver,
    RelaxedSolver,
    SwapSolver,
    TopKSolver,
)
from idl_cli.sim.solvers.supports.elimination import TOGETHER, eliminate
from idl_cli.sim.solvers.supports.shrinking import PANEL
from idl_cli.sim.statistics.dense import SufficientStatistics
from tests.sim.ranks import run_ranks

SOLVERS = (BackwardEliminationSolver(), TopKSolver(), SwapSolver(), RelaxedSolver())


def problem_of(
    seed: int, rows: int, features: int, *, samples: int = 40, budget: RowBudget | None = None
) -> RowRegression:
    """Correlated features and targets of some of them, with a limit that varies by row."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator, dtype=torch.float64)
    data = torch.randn(samples, features, generator=generator, dtype=torch.float64) @ mixing
    true = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, rows, generator=generator, dtype=torch.float64)
    targets = data @ true.T + noise
    sizes = torch.randint(0, features + 1, (rows,), generator=generator)
    return RowRegression(
        data.T @ data,
        targets.T @ data,
        targets.square().sum(dim=0),
        0.0,
        budget=budget,
        nonzeros=sizes,
    )


def error_on(problem: RowRegression, row: int, support: tuple[int, ...]) -> float:
    """Least squares on a support, by a solver of its own."""
    error = 0.5 * float(problem.target_square[row])
    if not support:
        return error
    index = list(support)
    cross = problem.cross[row, index]
    return error - 0.5 * float(cross @ torch.linalg.solve(problem.gram[index][:, index], cross))


def best_error(problem: RowRegression, row: int) -> float:
    """The least error of any support that is allowed."""
    assert problem.nonzeros is not None
    size = int(problem.nonzeros[row])
    return min(error_on(problem, row, s) for s in combinations(range(problem.features), size))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), features=st.integers(2, 7))
def test_solvers_lie_between_the_best_support_and_the_data(seed: int, features: int) -> None:
    problem = problem_of(seed, 3, features)
    best = torch.tensor([best_error(problem, row) for row in range(3)], dtype=torch.float64)
    scale = 1e-9 * problem.target_square
    assert bool((support_bound(problem) <= best + scale).all())
    for solver in SOLVERS:
        solution = solve(problem, solver)
        assert problem.nonzeros is not None
        assert bool(((solution.weights != 0).sum(dim=1) <= problem.nonzeros).all())
        found = solution.certificate.row_objectives
        assert bool((found >= best - scale).all())
        for row, weights in enumerate(solution.weights):
            support = tuple(weights.nonzero()[:, 0].tolist())
            # On its support the answer is the least-squares one: nothing is shrunk.
            assert float(found[row]) == pytest.approx(
                error_on(problem, row, support), abs=float(scale[row])
            )
        expected = "swap_optimal" if isinstance(solver, SwapSolver) else "stationary"
        assert solution.status == expected
        assert solution.lower_bound is not None


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), features=st.integers(2, 7))
def test_no_single_exchange_improves_a_swap_optimal_row(seed: int, features: int) -> None:
    problem = problem_of(seed, 2, features)
    solution = solve(problem, SwapSolver())
    assert solution.status == "swap_optimal"
    for row, weights in enumerate(solution.weights):
        inside = set(weights.nonzero()[:, 0].tolist())
        error = float(solution.certificate.row_objectives[row])
        for leaves in inside:
            for enters in set(range(features)) - inside:
                other = tuple(sorted(inside - {leaves} | {enters}))
                slack = 1e-9 * float(problem.target_square[row])
                assert error_on(problem, row, other) >= error - slack


def test_uncorrelated_features_are_solved_exactly_by_all() -> None:
    """With a diagonal G the largest h_j²/G_jj are the best support, which the bound then meets."""
    diagonal = torch.tensor([1.0, 4.0, 9.0, 0.25], dtype=torch.float64)
    cross = torch.tensor([[1.0, 6.0, 3.0, 0.4], [5.0, 0.1, 0.2, 2.0]], dtype=torch.float64)
    square = torch.tensor([40.0, 60.0], dtype=torch.float64)
    problem = RowRegression(
        diagonal.diag(), cross, square, 0.0, nonzeros=torch.tensor([2, 1], dtype=torch.int64)
    )
    best = 0.5 * square - 0.5 * torch.tensor([9.0 + 1.0, 25.0], dtype=torch.float64)
    torch.testing.assert_close(support_bound(problem), best, rtol=1e-10, atol=1e-9)
    for solver in SOLVERS:
        solution = solve(problem, solver)
        torch.testing.assert_close(solution.certificate.row_objectives, best)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_the_budget_holds_on_the_support(solver: BaseSolver) -> None:
    budget = RowBudget(4, 0.5)
    problem = problem_of(3, 6, 7, budget=budget)
    solution = solve(problem, solver)
    assert solution.certificate.feasible
    assert solution.stored_inf_norm <= budget.radius
    assert solution.status == "stationary"
    # On its support each row is optimal under the budget: the convex solver finds nothing better.
    for row, weights in enumerate(solution.weights):
        index = weights.nonzero()[:, 0]
        inside = int((index < budget.count).sum())
        if len(index) == 0:
            continue
        part = RowRegression(
            problem.gram[index][:, index],
            problem.cross[row : row + 1, index],
            problem.target_square[row : row + 1],
            0.0,
            budget=RowBudget(inside, budget.radius) if inside else None,
        )
        reference = solve(part, ActiveSetSolver(), tol=1e-9).certificate.objective
        assert float(solution.certificate.row_objectives[row]) <= reference * (1 + 1e-8) + 1e-9


def test_features_that_are_dead_or_duplicated_are_no_obstacle() -> None:
    problem = problem_of(5, 3, 5)
    twice = torch.tensor([0, 1, 2, 3, 4, 0])
    gram = torch.zeros(7, 7, dtype=torch.float64)
    gram[:6, :6] = problem.gram[twice][:, twice]
    cross = torch.cat([problem.cross[:, twice], torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    limit = torch.tensor([2, 5, 7])
    wide = RowRegression(gram, cross, problem.target_square, 0.0, nonzeros=limit)
    dense = torch.tensor([error_on(problem, row, (0, 1, 2, 3, 4)) for row in range(3)])
    for solver in SOLVERS:
        found = solve(wide, solver).certificate.row_objectives
        assert bool((found >= dense - 1e-6).all())
        assert float(found[2]) == pytest.approx(float(dense[2]), rel=1e-6)


def test_an_elimination_serves_every_number_of_weights() -> None:
    problem = problem_of(8, 3, 6)
    solver = BackwardEliminationSolver()
    first = solve(problem, solver)
    fewer = RowRegression(
        problem.gram,
        problem.cross,
        problem.target_square,
        0.0,
        nonzeros=torch.full((3,), 2, dtype=torch.int64),
    )
    assert first.start is not None
    again = solve(fewer, solver, start=first.start)
    assert again.start is not None
    assert again.start.memory is first.start.memory
    torch.testing.assert_close(again.weights, solve(fewer, solver).weights, rtol=0, atol=0)


def _of_a_rank(group: Group) -> list[Tensor]:
    problem = problem_of(4, 7, 6, budget=RowBudget(3, 0.4))
    found = [solve(problem, solver, group=group) for solver in SOLVERS]
    assert {solution.status for solution in found} == {"stationary"}
    return [solution.weights for solution in found]


def test_two_processes_share_the_rows_and_find_the_same() -> None:
    """A row's answer does not depend on which process it is dealt to."""
    alone, ranks = _of_a_rank(Group.single()), run_ranks(2, _of_a_rank)
    for rank in ranks:
        for found, expected in zip(rank, alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_limit_takes_the_place_of_the_penalty() -> None:
    problem = problem_of(1, 2, 3)
    parts = (problem.gram, problem.cross, problem.target_square)
    with pytest.raises(ArgumentError, match="takes the penalty's place"):
        RowRegression(*parts, 0.1, nonzeros=torch.tensor([1, 1]))
    with pytest.raises(ArgumentError, match="from 0 to 3"):
        RowRegression(*parts, 0.0, nonzeros=torch.tensor([1, 4]))
    with pytest.raises(ShapeError, match="int64"):
        RowRegression(*parts, 0.0, nonzeros=torch.tensor([1.0, 2.0]))


def test_a_solver_without_a_limit_says_so() -> None:
    problem = problem_of(1, 2, 3)
    with pytest.warns(IgnoredOptionWarning, match="the limit on non-zeros"):
        solution = solve(problem, ActiveSetSolver())
    assert solution.status == "unconstrained"


def offset_problem(
    offset: float | Tensor, limit: int, *, deviation: float = 1.0
) -> tuple[RowRegression, Tensor, Tensor]:
    """Five features near ``offset``, one of another size, and a constant; targets (m, 2)."""
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    data[:, 2] *= deviation
    targets = data[:, [1, 3]] * 2 - data[:, [4, 0]] + 0.1 * data[:, [2, 2]] + 7
    features = torch.cat([data + offset, torch.ones(60, 1, dtype=torch.float64)], dim=1)
    statistics = SufficientStatistics(0, 6, {"Y": 2})
    statistics.update(features[:, :0], features, {"Y": targets})
    problem = stage_problem(statistics, "Y", penalty=0.0)
    limits = torch.full((2,), limit, dtype=torch.int64)
    return replace(problem, nonzeros=limits), data, targets


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_offsets_hide_no_feature(solver: BaseSolver, limit: int) -> None:
    """With the constant among the weights an offset changes no error."""
    problem, data, targets = offset_problem(1e6, limit)
    solution = solve(problem, solver)
    assert bool(((solution.weights != 0).sum(dim=1) <= limit).all())
    centred = torch.cat([data, torch.ones(60, 1, dtype=torch.float64)], dim=1)
    for row in range(2):
        errors = [0.5 * float(targets[:, row].square().sum())] if limit == 0 else []
        for support in combinations(range(5), max(limit - 1, 0)):
            chosen = centred[:, [*support, 5]]
            found = torch.linalg.lstsq(chosen, targets[:, row, None]).solution
            errors.append(0.5 * float((chosen @ found - targets[:, row, None]).square().sum()))
        # Three weights give two of the features and the constant, which all solvers find here.
        best = min(errors) if limit else errors[0]
        assert float(solution.certificate.row_objectives[row]) == pytest.approx(best, rel=1e-6)
    assert solution.status == "stationary"
    assert solution.lower_bound is not None
    assert bool((solution.lower_bound <= solution.certificate.row_objectives).all())


def test_increments_add_up_to_the_error_of_every_support() -> None:
    """From more weights than are updated as a batch, over several panels, down to none."""
    features = PANEL + TOGETHER + 20
    problem = problem_of(3, 2, features, samples=2 * features)
    path = eliminate(problem.gram, problem.cross, ridge=0.0)
    rises = path.increments.cumsum(dim=1)
    dense = [error_on(problem, row, tuple(range(features))) for row in range(2)]
    for size in (0, 1, 100, TOGETHER, PANEL + 10, features - 1):
        for row in range(2):
            error = error_on(problem, row, tuple(path.order[row, features - size :].tolist()))
            rise = float(rises[row, features - size - 1])
            # Least squares by a solve of its own, on sums of squares of that size.
            slack = 1e-9 * float(problem.target_square[row])
            assert error - dense[row] == pytest.approx(rise, abs=slack)


def test_what_removals_cost_counts_the_constant_last() -> None:
    """Centred, the sum of all costs is what all weights together explain of the target."""
    problem, _, targets = offset_problem(1e6, 3)
    form = LimitedForm.of(problem)
    assert form.centred is not None
    path = eliminate(form.problem.gram, form.problem.cross, ridge=1e-9)
    costs = form.removal_costs(path.increments)
    torch.testing.assert_close(costs[:, -1], 30 * targets.mean(dim=0).square())
    dense = solve(replace(problem, nonzeros=None), LeastSquareSolver())
    explained = 0.5 * targets.square().sum(dim=0) - dense.certificate.row_objectives
    torch.testing.assert_close(costs.sum(dim=1), explained, rtol=1e-6, atol=0)


def test_a_single_offset_leaves_the_rows_as_they_are() -> None:
    """An offset of a feature that hardly varies is no reason to give every row a constant."""
    problem, _, _ = offset_problem(torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0]), 3, deviation=0.01)
    assert problem.shift is not None
    assert LimitedForm.of(problem).centred is None
    assert solve(problem, SwapSolver()).status == "swap_optimal"
