"""Newton's steps: exact on the right pattern, taken where slow modes are a continuum."""

import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.iterations.newton import NewtonSteps
from idl_cli.equilibrium.operators import DenseOperator, SparseOperator, SparsePattern
from idl_cli.equilibrium.problem import (
    AdjointMap,
    EquilibriumProblem,
    solve_adjoint,
    solve_state,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings


def chain(states: int, radius: float = 0.99) -> Tensor:
    """A tridiagonal A (n, n) with ρ(|A|) = radius: eigenvalues up to it without a gap."""
    matrix = torch.ones(states, states).double().triu(-1).tril(1).fill_diagonal_(0)
    return matrix * (radius / float(torch.linalg.eigvalsh(matrix).max()))


def normal(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def problem(name: str, tol: float) -> EquilibriumProblem:
    return EquilibriumProblem(
        DenseOperator,
        get_activation(name),
        FixedPointSettings(max_iter=5000, tol=tol),
        AdjointSettings(max_iter=5000, tol=tol),
        None,
    )


def linear_map(matrix: Tensor, slopes: Tensor, offset: Tensor) -> AdjointMap:
    """v ↦ d ⊙ (g + Aᵀv)."""
    return AdjointMap(problem("relu", 1e-5), DenseOperator(matrix.t()), slopes, offset)


def test_a_step_is_exact_on_the_pattern_of_the_solution() -> None:
    matrix, offset, slopes = chain(12), normal(5, 12), (normal(5, 12, seed=2) > 0).double()
    function, x = linear_map(matrix, slopes, offset), normal(5, 12, seed=3)
    found = NewtonSteps(function, x).step(function, x, function(x), torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(found, function(found), atol=1e-11, rtol=0)


def test_a_large_step_leaves_a_thousandth_of_the_residual() -> None:
    matrix, offset, slopes = chain(400), normal(5, 400), (normal(5, 400, seed=2) > 0).double()
    function, x = linear_map(matrix, slopes, offset), normal(5, 400, seed=3)
    found = NewtonSteps(function, x).step(function, x, function(x), torch.ones(5, dtype=torch.bool))
    left, before = (function(each) - each for each in (found, x))
    assert bool((left.norm(dim=1) <= 1.01e-3 * before.norm(dim=1)).all())


def test_a_sample_without_a_finite_step_takes_the_plain_one() -> None:
    x = normal(3, 4)
    slopes = torch.ones(3, 4).double()
    slopes[1] = torch.nan
    function = linear_map(torch.eye(4).double(), slopes, x)  # I − A is singular
    found = NewtonSteps(function, x).step(function, x, x + 1, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(found, x + 1, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["relu", "tanh", "abs", "hardtanh"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("states", [60, 330])  # factorised; first by a Krylov method
def test_a_continuum_of_slow_modes_is_solved_in_few_iterations(
    name: str, sparse: bool, states: int
) -> None:
    matrix, offset, g = chain(states, 0.999), normal(6, states), normal(6, states, seed=2)
    pattern = SparsePattern.of(matrix)
    operator = SparseOperator(pattern.values(matrix), pattern) if sparse else DenseOperator(matrix)
    solved = solve_state(problem(name, 1e-12), operator, offset, None)
    assert bool(solved.converged.all())
    # Plain steps take thousands, and a Krylov method alone 1,300 for relu.
    most = {60: 30, 330: 300}[states]
    assert int(solved.iterations.max()) <= most
    z = solved.value @ matrix.t() + offset
    activation = get_activation(name)
    torch.testing.assert_close(solved.value, activation.function(z), atol=1e-10, rtol=0)
    slopes = activation.derivative(z)
    adjoint = solve_adjoint(problem(name, 1e-12), operator, slopes, g)
    assert int(adjoint.iterations.max()) <= {60: 12, 330: 300}[states]
    exact = torch.linalg.solve(
        torch.eye(states).double() - slopes[:, :, None] * matrix.t(), (slopes * g)[:, :, None]
    ).squeeze(2)
    torch.testing.assert_close(adjoint.value, exact, atol=1e-8, rtol=1e-9)


def test_coarse_steps_that_are_slow_are_left() -> None:
    # Of 200 states three sweeps of subspace iteration take a mixture of modes for slow ones.
    solved = solve_state(
        problem("relu", 1e-5), DenseOperator(chain(200).float()), normal(1, 200).float(), None
    )
    assert bool(solved.converged.all())
    assert int(solved.iterations.max()) <= 100  # of coarse steps alone 500


def test_a_sample_that_is_not_finite_leaves_the_others_alone() -> None:
    operator, offset = DenseOperator(chain(30)), normal(4, 30)
    expected = solve_state(problem("relu", 1e-11), operator, offset, None).value
    offset[2, 5] = torch.nan
    solved = solve_state(problem("relu", 1e-11), operator, offset, None)
    assert solved.converged.tolist() == [True, True, False, True]
    others = [0, 1, 3]
    torch.testing.assert_close(solved.value[others], expected[others], atol=1e-9, rtol=0)
