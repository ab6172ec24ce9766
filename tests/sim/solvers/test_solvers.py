"""Every solver on a bank of hard little problems, judged by the certificate and against CVXPY.

Solvers are found by their public names: a new one is tested without a line here.
"""

import dataclasses
import warnings

import pytest
import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, ConvergenceWarning, IgnoredOptionWarning
from idl_cli.sim import solvers
from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.solvers import ADMMSolver, BaseSolver, ProjectedGDLowRankSolver
from tests.sim.problem_bank import BANK, BankProblem, optimum, planted

EVERYTHING = {"l1", "l2", "budget"}
NAMES = [name for name in solvers.__all__ if name != "BaseSolver"]


def _make(name: str, **settings: object) -> BaseSolver:
    solver = getattr(solvers, name)(**settings)
    assert isinstance(solver, BaseSolver)
    return solver


CONVEX = [name for name in NAMES if _make(name).handles >= EVERYTHING]
ITERATIVE = [
    name
    for name in CONVEX
    if {"max_iter", "check_every"} <= {field.name for field in dataclasses.fields(_make(name))}
]
LOW_RANK = [name for name in BANK if BANK[name].radius is not None and len(BANK[name].targets) > 1]


def _assert_optimal(bank: BankProblem, solution: Solution) -> None:
    assert solution.status in ("optimal", "at_precision"), solution.certificate
    best = bank.objective(optimum(bank.name)).sum()
    found = bank.objective(solution.weights).sum()
    # The reference itself is good to 1e-9 of the data's own size, which is all that an objective
    # of zero (an exact fit) can be compared with.
    slack = 1e-6 * best + 1e-10 * bank.targets.square().sum()
    assert abs(float(found - best)) <= float(slack)
    # The certificate's figure is that of the samples; its zero is only known to round-off of ‖z‖².
    assert solution.certificate.objective == pytest.approx(
        float(found), rel=1e-9, abs=1e-13 * float(bank.targets.square().sum())
    )


def _assert_feasible(bank: BankProblem, solution: Solution) -> None:
    assert solution.certificate.feasible
    if bank.radius is None:
        return
    assert solution.stored.dtype == torch.float32
    norms = solution.stored[:, : bank.count].double().abs().sum(dim=1)
    assert float(norms.max()) <= bank.radius
    assert solution.stored_inf_norm == float(norms.max())


@pytest.mark.parametrize("problem", BANK)
@pytest.mark.parametrize("name", CONVEX)
def test_optimum(name: str, problem: str) -> None:
    bank = BANK[problem]
    solution = solve(bank.regression, _make(name))
    _assert_optimal(bank, solution)
    _assert_feasible(bank, solution)


@pytest.mark.parametrize("name", CONVEX)
def test_all_zero_exactly_from_lambda_max_on(name: str) -> None:
    for problem in ("λ = λ_max", "λ > λ_max"):
        solution = solve(BANK[problem].regression, _make(name))
        # At λ_max itself the entry of largest correlation may come out as round-off.
        assert float(solution.weights.abs().max()) <= 1e-12
    assert bool((solution.weights == 0).all())
    below = solve(BANK["λ just below λ_max"].regression, _make(name))
    assert int((below.weights != 0).sum()) >= 1


@pytest.mark.parametrize("name", CONVEX)
def test_dead_rows_are_exactly_zero(name: str) -> None:
    solution = solve(BANK["dead rows"].regression, _make(name))
    assert solution.certificate.dead_rows == (1, 3)
    assert bool((solution.weights[[1, 3]] == 0).all())
    assert int((solution.weights[[0, 2, 4]] != 0).any(dim=1).sum()) == 3


@pytest.mark.parametrize("penalty", [1.0, 50.0, 300.0])
@pytest.mark.parametrize("name", CONVEX)
def test_without_a_budget_the_sparsity_is_the_optimum_s(name: str, penalty: float) -> None:
    # A threshold that is not the prox of the l1 norm gives all-dense weights, and objectives
    # that exceed the optimum by factors at a large λ.
    generator = torch.Generator().manual_seed(3)
    samples = torch.randn(16, 200, generator=generator, dtype=torch.float64)
    targets = torch.randn(4, 16, generator=generator, dtype=torch.float64) @ samples
    bank = BankProblem("", samples, targets, l1=penalty, radius=None)
    solution = solve(bank.regression, _make(name), tol=1e-9)
    correlations = (targets - solution.weights @ samples) @ samples.T
    slack = 1e-5 * penalty
    # Optimality conditions, entry by entry: |g| = λ with the weight's sign, or |g| <= λ at zero.
    nonzero = solution.weights != 0
    signed = correlations * solution.weights.sign()
    assert float((signed[nonzero] - penalty).abs().max()) <= slack
    if bool((~nonzero).any()):
        assert float(correlations[~nonzero].abs().max()) <= penalty + slack
    if penalty == 300.0:
        assert 0.0 < solution.certificate.nonzero_fraction < 0.9


@pytest.mark.parametrize("name", CONVEX)
def test_the_budget_is_each_row_s_own(name: str) -> None:
    bank = BANK["budget active"]
    together = solve(bank.regression, _make(name))
    norms = together.weights[:, : bank.count].abs().sum(dim=1)
    # Shared by the block, a budget of 0.3 could be used up by one row at most.
    assert bank.radius is not None
    assert int((norms > 0.99 * bank.radius).sum()) == 3
    alone = torch.cat(
        [
            solve(
                bank.regression.select(torch.tensor([row])), _make(name)
            ).certificate.row_objectives
            for row in range(bank.regression.rows)
        ]
    )
    torch.testing.assert_close(together.certificate.row_objectives, alone, rtol=2e-6, atol=0)


@pytest.mark.parametrize("iterations", [1, 5, 50])
@pytest.mark.parametrize("name", ITERATIVE)
def test_stopped_early_the_answer_is_feasible_sparse_and_said_to_be_inexact(
    name: str, iterations: int
) -> None:
    # The average of copies of a splitting method is neither feasible nor sparse until the end.
    bank = planted("", 30, radius=0.3, samples=9, l1=5.0, rows=20)
    settings = {"max_iter": iterations, "check_every": iterations}
    if "polish_passes" in {field.name for field in dataclasses.fields(_make(name))}:
        settings["polish_passes"] = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve(bank.regression, _make(name, **settings))
    _assert_feasible(bank, solution)
    assert solution.iterations <= iterations
    assert solution.certificate.nonzero_fraction < 0.6
    inexact = solution.status == "inexact"
    assert inexact == any(issubclass(each.category, ConvergenceWarning) for each in caught)
    if iterations == 1:
        assert inexact


@pytest.mark.parametrize("name", CONVEX)
def test_what_is_stored_is_what_was_certified(name: str) -> None:
    # Nothing is rounded to zero afterwards: small weights are as much a part of the optimum.
    bank = BANK["features of units 1e6 apart"]
    solution = solve(bank.regression, _make(name), dtype=torch.float64)
    torch.testing.assert_close(solution.stored, solution.weights, rtol=1e-12, atol=0)
    again = certify(bank.regression, solution.stored)
    assert again.status in ("optimal", "at_precision")
    assert again.objective == pytest.approx(solution.certificate.objective, rel=1e-9)


# -- low rank --------------------------------------------------------------------------------------


def _frank_wolfe_gap(bank: BankProblem, left: Tensor, right: Tensor, rest: Tensor) -> float:
    """Largest decrease that a first-order model of F promises in a block; 0 if stationary.

    Of L and R over their balls, whose corners the minimiser lies on; of B the violation of its
    optimality conditions. F is differentiated from the samples: no prox, no statistics.
    """
    blocks = [each.clone().requires_grad_() for each in (left, right, rest)]
    weights = torch.cat([blocks[0] @ blocks[1].T, blocks[2]], dim=1)
    residual = weights @ bank.samples - bank.targets
    smooth = 0.5 * residual.square().sum() + 0.5 * bank.l2 * weights.square().sum()
    gradient_left, gradient_right, gradient_rest = torch.autograd.grad(smooth, blocks)
    assert bank.radius is not None
    steepest = gradient_left.abs().amax(dim=1)
    gap_left = (gradient_left * left).sum(dim=1) + bank.l1 * left.abs().sum(dim=1)
    gap_left = gap_left + bank.radius * (steepest - bank.l1).clamp(min=0)
    gap_right = (gradient_right * right).sum(dim=0) + gradient_right.abs().amax(dim=0)
    violation = torch.where(
        rest != 0,
        (gradient_rest + bank.l1 * rest.sign()).abs(),
        (gradient_rest.abs() - bank.l1).clamp(min=0),
    )
    units = bank.samples[bank.count :].norm(dim=1).clamp(min=1e-12)
    gap_rest = (violation / units).sum(dim=1) * bank.targets.norm(dim=1)
    return float(gap_left.sum() + gap_right.sum() + gap_rest.sum())


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("problem", LOW_RANK)
def test_low_rank_is_stationary_feasible_and_never_above_its_start(problem: str, rank: int) -> None:
    bank = BANK[problem]
    solution = solve(bank.regression, ProjectedGDLowRankSolver(rank=rank))
    assert solution.status == "stationary"
    _assert_feasible(bank, solution)
    objectives = [entry.objective for entry in solution.history]
    assert solution.certificate.objective <= objectives[0]
    assert objectives[0] == pytest.approx(0.5 * float(bank.targets.square().sum()))

    assert solution.factors is not None
    left, right = solution.factors.left, solution.factors.right
    assert left.shape[1] == right.shape[1] == rank
    product = solution.weights[:, : bank.count]
    torch.testing.assert_close(left @ right.T, product, rtol=1e-12, atol=1e-14)
    assert bank.radius is not None
    assert float(left.abs().sum(dim=1).max()) <= bank.radius * (1 + 1e-12)
    assert float(right.abs().sum(dim=0).max()) <= 1 + 1e-12
    # A relative prox-gradient mapping of 1e-6, where the solver stops, summed over the weights.
    gap = _frank_wolfe_gap(bank, left, right, solution.weights[:, bank.count :])
    assert gap <= 2e-5 * float(bank.targets.square().sum())


@pytest.mark.parametrize("problem", LOW_RANK)
def test_low_rank_is_never_better_than_the_optimum_without_a_rank(problem: str) -> None:
    bank = BANK[problem]
    best = float(bank.objective(optimum(problem)).sum())
    for rank in (1, 3):
        solution = solve(bank.regression, ProjectedGDLowRankSolver(rank=rank))
        # Rounding of the objective is relative to ‖z‖².
        slack = 1e-9 * best + 1e-13 * float(bank.targets.square().sum())
        assert solution.certificate.objective >= best - slack


def test_a_planted_low_rank_matrix_is_found() -> None:
    generator = torch.Generator().manual_seed(5)
    samples = torch.randn(14, 80, generator=generator, dtype=torch.float64)
    left = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    right = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    rest = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    targets = torch.cat([left @ right.T, rest], dim=1) @ samples
    bank = BankProblem("", samples, targets, l1=0.0, radius=1e3)
    solution = solve(bank.regression, ProjectedGDLowRankSolver(rank=2))
    assert solution.status == "stationary"
    # Stationarity of 1e-6 in the gradient is 1e-12 in the objective, up to the conditioning.
    assert solution.certificate.objective <= 1e-8 * float(targets.square().sum())
    poorer = solve(bank.regression, ProjectedGDLowRankSolver(rank=1))
    assert poorer.certificate.objective > 1e-3 * float(targets.square().sum())


def test_a_rank_that_restricts_nothing_is_the_convex_problem() -> None:
    bank = BANK["budget active"]
    dense = solve(bank.regression, ProjectedGDLowRankSolver())
    full = solve(bank.regression, ProjectedGDLowRankSolver(rank=bank.regression.rows))
    assert dense.factors is None
    assert full.factors is None
    assert torch.equal(dense.weights, full.weights)


def test_without_a_budget_a_rank_has_nothing_to_bound() -> None:
    bank = BANK["no budget"]
    solution = solve(bank.regression, ProjectedGDLowRankSolver(rank=1))
    assert solution.factors is None
    _assert_optimal(bank, solution)


def test_low_rank_that_is_not_yet_stationary_is_said_to_be_inexact() -> None:
    solver = ProjectedGDLowRankSolver(rank=2, max_iter=3)
    with pytest.warns(ConvergenceWarning, match=r"before a stationary point: raise solver\.max_it"):
        solution = solve(BANK["budget active"].regression, solver)
    assert solution.status == "inexact"
    _assert_feasible(BANK["budget active"], solution)


# -- least squares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", BANK)
def test_least_squares_has_the_smallest_norm(problem: str) -> None:
    bank = BANK[problem]
    plain = dataclasses.replace(bank, l1=0.0, l2=0.0, radius=None)
    solution = solve(plain.regression, _make("LeastSquareSolver"))
    expected = torch.linalg.lstsq(
        bank.samples.T, bank.targets.T, rcond=1e-10, driver="gelsd"
    ).solution.T
    # The solver works from the gram matrix, whose condition number is that of S squared.
    units = bank.samples.norm(dim=1)
    torch.testing.assert_close(
        solution.weights * units, expected * units, rtol=1e-6, atol=1e-8 * float(units.max())
    )


def test_least_squares_says_that_it_ignores_penalty_and_budget() -> None:
    bank = BANK["budget active"]
    with pytest.warns(IgnoredOptionWarning, match="the l1 penalty and the bound"):
        solution = solve(bank.regression, _make("LeastSquareSolver"))
    assert solution.status == "unconstrained"
    assert set(solution.ignored) == {"l1", "budget"}
    assert not solution.certificate.feasible
    assert any("exceeds" in note for note in solution.notes)
    # What is stored is still that answer, not another one shrunk into the budget.
    torch.testing.assert_close(solution.stored.double(), solution.weights, rtol=1e-6, atol=0)


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"rank": 0}, {"max_iter": 0}, {"check_every": 0}, {"stationary_tol": 0.0}],
    ids=str,
)
def test_projected_gradient_refuses_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(settings))):
        ProjectedGDLowRankSolver(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_a_solver_is_immutable_and_keeps_nothing_of_a_problem(name: str) -> None:
    solver = _make(name)
    before = dataclasses.asdict(solver)
    solvable = dataclasses.replace(BANK["no penalty, no budget"])
    first = solve(solvable.regression, solver)
    solve(BANK["one row"].regression, solver, warn=False)
    second = solve(solvable.regression, solver)
    assert dataclasses.asdict(solver) == before
    assert torch.equal(first.weights, second.weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.max_iter = 3  # type: ignore[attr-defined]


def test_ten_rows_or_one_feature_alike() -> None:
    gram = torch.tensor([[4.0]], dtype=torch.float64)
    cross = torch.linspace(-6, 6, 10, dtype=torch.float64)[:, None]
    square = cross[:, 0].square()
    problem = RowRegression(gram, cross, square, l1=1.0, budget=RowBudget(1, 0.75))
    expected = ((cross.abs() - 1).clamp(min=0) / 4).clamp(max=0.75) * cross.sign()
    for solver in (ADMMSolver(), ProjectedGDLowRankSolver()):
        torch.testing.assert_close(solve(problem, solver).weights, expected, rtol=0, atol=1e-7)
