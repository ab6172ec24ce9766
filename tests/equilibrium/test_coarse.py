"""Slow spectra: as exact as plain steps, in a fraction of their iterations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.iterations.coarse import extrapolated
from idl_cli.equilibrium.iterations.modes import dominant_modes
from idl_cli.equilibrium.operators import DenseOperator, LowRankOperator, Operator
from idl_cli.equilibrium.problem import EquilibriumProblem, solve_adjoint, solve_state
from idl_cli.equilibrium.result import SolveStatus
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ConvergenceWarning

SIZE, SAMPLES = 60, 12


def slow_matrix(kind: str, radius: float, seed: int = 0) -> Tensor:
    """A (n, n) in float64 with ρ(|A|) = radius."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(SIZE, SIZE, generator=generator, dtype=torch.float64)
    states = torch.arange(SIZE)
    if kind.startswith("blocks"):
        block = states * int(kind[6:]) // SIZE
        matrix *= torch.where(block[:, None] == block, 1.0, 1e-4)
    elif kind == "sparse":
        matrix *= torch.rand(SIZE, SIZE, generator=generator) < 0.08
    elif kind == "tridiagonal":
        matrix = torch.ones(SIZE, SIZE).double().triu(-1).tril(1).fill_diagonal_(0)
    elif kind == "signs":
        matrix *= (torch.rand(SIZE, SIZE, generator=generator) - 0.5).sign()
    elif kind == "skew":
        matrix = matrix - matrix.t()
    elif kind == "similar":  # slow in one direction of both signs, far from that of ones
        signs = (torch.rand(SIZE, generator=generator) - 0.5).sign() * 10 ** torch.rand(
            SIZE, generator=generator
        )
        matrix = signs[:, None] * matrix / signs
    largest = torch.linalg.eigvals(matrix.abs()).abs().max()
    return matrix * (radius / float(largest))


def offsets(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, SAMPLES, SIZE, generator=generator, dtype=torch.float64)
    return pair[0], pair[1]


def problem(method: str, operator: Operator, tol: float, name: str = "relu") -> EquilibriumProblem:
    return EquilibriumProblem(
        type(operator),
        get_activation(name),
        FixedPointSettings(method, max_iter=20000, tol=tol),  # type: ignore[arg-type]
        AdjointSettings(method, max_iter=20000, tol=tol),  # type: ignore[arg-type]
        None,
    )


@pytest.mark.parametrize("kind", ["one", "blocks3", "blocks8", "similar"])
@pytest.mark.parametrize("radius", [0.99, 0.999])
def test_few_slow_modes_cost_as_little_as_none(kind: str, radius: float) -> None:
    operator = DenseOperator(slow_matrix(kind, radius).float())
    offset, gradient = (each.float() for each in offsets())
    hard = problem("auto", operator, 1e-5)
    found = solve_state(hard, operator, offset, None)
    adjoint = solve_adjoint(hard, operator, (found.value > 0).float(), gradient)
    # Plain steps take log(tol)/log(radius): 1,100 and more.
    assert found.status is adjoint.status is SolveStatus.CONVERGED
    assert int(found.iterations.max()) <= 14
    assert int(adjoint.iterations.max()) <= 14


@given(
    kind=st.sampled_from(["one", "blocks4", "sparse", "tridiagonal", "signs", "skew", "similar"]),
    radius=st.sampled_from([0.5, 0.9, 0.99]),
    name=st.sampled_from(["relu", "tanh", "identity", "leaky_relu"]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_what_is_found_is_the_equilibrium_and_its_adjoint(
    kind: str, radius: float, name: str, seed: int
) -> None:
    matrix = slow_matrix(kind, radius, seed)
    operator = DenseOperator(matrix)
    offset, gradient = offsets(seed + 1)
    tol = 1e-8
    auto = problem("auto", operator, tol, name)
    found = solve_state(auto, operator, offset, None)
    assert bool(found.converged.all())
    exact = solve_state(problem("picard", operator, 1e-14, name), operator, offset, None).value
    summed = torch.maximum(exact.abs() @ matrix.abs().t() + offset.abs(), exact.abs())
    inverse = torch.linalg.inv(torch.eye(SIZE).double() - matrix.abs())
    # Twice: the bound is evaluated at the exact state, the rule at one within tol of it.
    assert bool(((found.value - exact).abs() <= 2 * tol * summed @ inverse.t()).all())

    slopes = get_activation(name).derivative(exact @ matrix.t() + offset)
    adjoint = solve_adjoint(auto, operator, slopes, gradient)
    assert bool(adjoint.converged.all())
    for sample in range(SAMPLES):
        system = torch.eye(SIZE).double() - slopes[sample][:, None] * matrix.t()
        v = torch.linalg.solve(system, slopes[sample] * gradient[sample])
        bound = (v.abs() @ matrix.abs() + gradient[sample].abs()) @ inverse
        # ‖·‖₁ is the norm in which the adjoint contracts.
        assert float((adjoint.value[sample] - v).abs().sum()) <= 2 * tol * float(bound.sum())


@pytest.mark.parametrize("kind", ["tridiagonal", "sparse"])
def test_where_no_gap_shows_extrapolation_is_faster_than_plain_steps(kind: str) -> None:
    operator = DenseOperator(slow_matrix(kind, 0.99).float())
    gradient = offsets()[1].float()
    slopes = torch.ones(SAMPLES, SIZE)
    counts = {
        method: int(
            solve_adjoint(problem(method, operator, 1e-5), operator, slopes, gradient)
            .iterations.float()
            .mean()
        )
        for method in ("auto", "picard")
    }
    assert counts["auto"] <= counts["picard"] / 3


def test_a_low_rank_matrix_has_the_modes_of_its_product() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, SIZE, 3, generator=generator, dtype=torch.float64)
    scale = 0.99 / float(torch.linalg.eigvals(left @ right.t()).abs().max())
    low_rank = LowRankOperator(scale * left, right)
    for operator in (low_rank, DenseOperator(scale * left @ right.t())):
        modes = dominant_modes(operator)
        assert modes is not None
        matrix = scale * left @ right.t()
        for subspace, image, linear in (
            (modes.right, modes.right_image, matrix),
            (modes.left, modes.left_image, matrix.t()),
        ):
            torch.testing.assert_close(subspace @ linear.t(), image)
            torch.testing.assert_close(image @ subspace.t() @ subspace, image, atol=1e-6, rtol=0)
        assert float((modes.right @ modes.right_image.t())[0, 0]) == pytest.approx(0.99)


@pytest.mark.parametrize("kind", ["signs", "skew", "tridiagonal"])
def test_no_modes_are_taken_where_none_stand_out(kind: str) -> None:
    assert dominant_modes(DenseOperator(slow_matrix(kind, 0.99))) is None


def test_an_extrapolation_is_exact_on_a_linear_map_of_as_many_modes() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64) / 3
    constant = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    iterates = [torch.zeros_like(constant)]
    for _ in range(5):
        iterates.append(iterates[-1] @ matrix.t() + constant)
    exact = torch.linalg.solve(torch.eye(4).double() - matrix, constant.t()).t()
    torch.testing.assert_close(extrapolated(iterates), exact, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["relu", "tanh", "abs", "hardtanh"])
def test_a_solve_that_failed_has_no_gradient_of_zero(name: str) -> None:
    operator = DenseOperator(slow_matrix("one", 0.99))
    offset = offsets()[0]
    offset[3, 7] = torch.nan
    offset.requires_grad_()
    counts = SolveStatistics()
    with pytest.warns(ConvergenceWarning, match="1 of 12 equilibria"):
        x = equilibrium(operator, offset, get_activation(name), statistics=counts)
    with pytest.warns(ConvergenceWarning, match="1 of 12 adjoint"):
        x.sum().backward()  # type: ignore[no-untyped-call]
    assert offset.grad is not None
    assert bool(offset.grad[3].isnan().any())
    assert bool(offset.grad[torch.arange(SAMPLES) != 3].isfinite().all())
    assert counts.summary()["unconverged_share"] == pytest.approx(1 / 12)


@pytest.mark.parametrize("kind", ["one", "sparse"])
def test_a_sample_has_the_same_answer_in_any_batch(kind: str) -> None:
    operator = DenseOperator(slow_matrix(kind, 0.99))
    offset = offsets()[0]
    together = solve_state(problem("auto", operator, 1e-9), operator, offset, None).value
    for sample in (0, 5):
        alone = solve_state(
            problem("auto", operator, 1e-9), operator, offset[sample : sample + 1], None
        ).value
        # Both within tol κ/(1 − κ) of the equilibrium, in the norm in which A contracts.
        assert float((alone - together[sample]).abs().max()) <= 2e-7 * float(alone.abs().max())


def test_of_many_states_an_easy_solve_ends_after_four_and_a_slow_one_is_known_soon() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(1000, 1000, generator=generator)
    offset = torch.randn(1, 1000, generator=generator)
    easy, slow = (
        each * (0.99 / each.abs().sum(dim=1, keepdim=True)) for each in (2 * matrix - 1, matrix)
    )
    for each, most in ((easy, 4), (slow, 20)):
        operator = DenseOperator(each)
        solved = solve_state(problem("auto", operator, 1e-5), operator, offset, None)
        assert bool(solved.converged.all())
        assert int(solved.iterations.max()) <= most
