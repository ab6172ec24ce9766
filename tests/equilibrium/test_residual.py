"""The one rule of convergence: scale-free, state by state, and a bound on the true error."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.engine import Iterations, solve
from idl_cli.equilibrium.fixed_point import Steps
from idl_cli.equilibrium.iterations.picard import Picard
from idl_cli.equilibrium.operators import ConvolutionLayout, ConvolutionOperator, DenseOperator
from idl_cli.equilibrium.problem import (
    AdjointMap,
    EquilibriumProblem,
    StateMap,
    solve_adjoint,
    solve_state,
)
from idl_cli.equilibrium.recurrence.modulus import Modulus, ModulusAdjoints, ModulusStates
from idl_cli.equilibrium.recurrence.together import Together
from idl_cli.equilibrium.residual import Change, reachable
from idl_cli.equilibrium.result import FixedPointResult
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings

METHODS = pytest.mark.parametrize("method", ["picard", "anderson", "auto"])


def problem(method: str, tol: float, name: str = "relu") -> EquilibriumProblem:
    return EquilibriumProblem(
        DenseOperator,
        get_activation(name),
        FixedPointSettings(method, max_iter=20000, tol=tol),
        AdjointSettings(method, max_iter=20000, tol=tol),
        None,
    )


def feedback(kind: str, seed: int = 0, size: int = 24, norm: float = 0.9) -> Tensor:
    """A (n, n) in float64 with ‖A‖∞ = norm."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    if kind == "positive":
        matrix = matrix.abs()
    if kind == "layers":  # six layers of size/6 states, and what hardly feeds back
        layer = torch.arange(size) // (size // 6)
        matrix *= torch.where(layer[None] == layer[:, None] + 1, 1.0, 1e-9)
    if kind == "chain":  # non-normal: a shift, closed to a ring by little
        matrix = torch.eye(size).double().roll(1, 1)
        matrix[-1, 0] = 1e-9
        return norm * matrix
    return matrix * (norm / matrix.abs().sum(dim=1, keepdim=True))


def offsets(kind: str, seed: int = 1, samples: int = 7, size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    if kind in ("layers", "chain"):
        offset[:, : 5 * size // 6] = 0
    return offset


KINDS = pytest.mark.parametrize("kind", ["dense", "positive", "layers", "chain"])


def error_bound(matrix: Tensor, x: Tensor, offset: Tensor, tol: float) -> Tensor:
    """tol (I − |A|)⁻¹ (|A||x| + |b|), sample by sample."""
    summed = torch.maximum(x.abs() @ matrix.abs().t() + offset.abs(), x.abs())
    return tol * torch.linalg.solve(torch.eye(len(matrix)).double() - matrix.abs(), summed.t()).t()


@METHODS
@KINDS
@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_the_true_error_of_a_converged_solve_is_bounded_state_by_state(
    kind: str, method: str, tol: float
) -> None:
    matrix, offset = feedback(kind), offsets(kind)
    operator = DenseOperator(matrix)
    found = solve_state(problem(method, tol), operator, offset, None)
    exact = solve_state(problem("picard", 1e-15), operator, offset, None).value
    assert bool(found.converged.all())
    bound = error_bound(matrix, exact, offset, tol)
    # Twice: the bound is evaluated at the exact state, the rule at one within tol of it.
    assert bool(((found.value - exact).abs() <= 2 * bound).all())

    slopes = (exact > 0).double()
    gradient = offset.flip(1) if kind in ("layers", "chain") else offset
    adjoint = solve_adjoint(problem(method, tol), operator, slopes, gradient)
    exact = solve_adjoint(problem("picard", 1e-15), operator, slopes, gradient).value
    assert bool(adjoint.converged.all())
    if kind != "positive":
        bound = error_bound(matrix.t(), exact, gradient, tol)
    else:  # ‖·‖₁ is the norm in which the adjoint contracts
        bound = error_bound(matrix.t(), exact, gradient, tol).sum(dim=1, keepdim=True)
    assert bool(((adjoint.value - exact).abs() <= 2 * bound).all())


def solved_together(iterations: Iterations, tol: float, scale: Tensor | None) -> FixedPointResult:
    policy = Together(first_check=2, rounding=reachable(0, torch.float64))
    return solve(iterations, policy, max_iter=5000, tol=tol, scale=scale)


@KINDS
def test_the_steps_of_a_recurrence_keep_the_same_bound(kind: str) -> None:
    tol = 1e-6
    matrix, offset = feedback(kind), offsets(kind)
    operator = DenseOperator(matrix)
    exact = solve_state(problem("picard", 1e-15), operator, offset, None).value
    slopes = (exact > 0).double()
    adjoint = solve_adjoint(problem("picard", 1e-15), operator, slopes, offset).value
    modulus, plain = Modulus(matrix, len(offset)), Picard(offset.shape[1])
    states = StateMap(problem("picard", tol), operator, offset)
    adjoints = AdjointMap(problem("picard", tol), operator, slopes, offset)
    scale = offset.abs().amax(dim=1)
    solves = [  # made one by one, since they share memory
        (lambda: Steps(states, plain, offset.relu()), None, exact, matrix),
        (lambda: ModulusStates(modulus, offset, None), None, exact, matrix),
        (lambda: Steps(adjoints, plain, slopes * offset), scale, adjoint, matrix.t()),
        (lambda: ModulusAdjoints(modulus, slopes, offset), scale, adjoint, matrix.t()),
    ]
    for make, divisor, wanted, linear in solves:
        result = solved_together(make(), tol, divisor)
        assert bool((result.residuals <= tol).all())
        bound = error_bound(linear, wanted, offset, tol)
        assert bool(((result.value - wanted).abs() <= 2 * bound).all())


def scaled(dtype: torch.dtype, exponent: int, method: str, kind: str) -> FixedPointResult:
    offset = (offsets(kind) * 2.0**exponent).to(dtype)
    matrix = feedback(kind).to(dtype)
    return solve_state(problem(method, 1e-5), DenseOperator(matrix), offset, None)


@METHODS
@given(exponent=st.integers(-40, 40), kind=st.sampled_from(["dense", "layers"]))
@settings(deadline=None, max_examples=15, derandomize=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_the_inputs_scales_the_states_to_the_bit(
    method: str, dtype: torch.dtype, exponent: int, kind: str
) -> None:
    one, other = (scaled(dtype, each, method, kind) for each in (0, exponent))
    assert bool(other.converged.all())
    assert torch.equal(other.iterations, one.iterations)
    assert torch.equal(other.residuals, one.residuals)
    assert torch.equal(other.value, one.value * 2.0**exponent)


@pytest.mark.parametrize("factor", [1e-12, 1e-5, 1e12])
def test_small_and_large_inputs_are_solved_as_well(factor: float) -> None:
    for tol in (1e-3, 1e-6):
        offset = factor * offsets("dense")
        operator = DenseOperator(feedback("dense"))
        found = solve_state(problem("picard", tol), operator, offset, None).value
        exact = solve_state(problem("picard", 1e-15), operator, offset, None).value
        # ‖x − x*‖ ≤ ‖f(x) − x‖/(1 − κ), with κ = 0.9.
        error = (found - exact).abs().amax(dim=1) / exact.abs().amax(dim=1)
        assert float(error.max()) <= 10.5 * tol


@METHODS
def test_zeros_have_converged_at_once(method: str) -> None:
    offset = torch.zeros(3, 24)
    operator = DenseOperator(feedback("dense").float())
    for result in (
        solve_state(problem(method, 1e-5), operator, offset, None),
        solve_adjoint(problem(method, 1e-5), operator, torch.ones(3, 24), offset),
    ):
        assert bool(result.converged.all())
        assert not result.value.any()
        assert not result.residuals.any()
        assert int(result.iterations.max()) <= 24  # looked at by then


@METHODS
@KINDS
@pytest.mark.parametrize(
    ("dtype", "tol"),
    [(torch.float32, 1e-6), (torch.float32, 1e-12), (torch.bfloat16, 1e-5), (torch.float64, 1e-20)],
)
def test_a_tolerance_below_rounding_ends_at_rounding(
    dtype: torch.dtype, tol: float, kind: str, method: str
) -> None:
    if dtype is torch.bfloat16 and method == "anderson":
        pytest.skip("torch has no linear solve in bfloat16")
    operator = DenseOperator(feedback(kind).to(dtype))
    offset = offsets(kind, samples=200).to(dtype)
    result = solve_state(problem(method, tol), operator, offset, None)
    assert bool(result.converged.all())
    assert int(result.iterations.max()) < 1000
    assert float(result.residuals.max()) <= reachable(tol, dtype)
    adjoint = solve_adjoint(problem(method, tol), operator, (result.value > 0).to(dtype), offset)
    assert bool(adjoint.converged.all())


def test_a_diverging_iterate_near_the_largest_number_has_not_converged() -> None:
    x = torch.full((1, 2), 1.5e38)
    residual = Change.of(x, 2 * x, None).residual
    assert float(residual) == pytest.approx(0.5)
    residual = Change.of(x, -2 * x, None).residual
    assert not bool(residual <= 1e-5)


def test_a_sample_whose_states_all_nearly_cancel_converges_by_plain_steps() -> None:
    # The modulus iteration carries z = −1 of the idle states along, whose rounding hides x = 1e-7.
    matrix = feedback("dense").float()
    offset = torch.full((3, 24), -1.0)
    offset[:, 0] = torch.tensor([1e-7, 1e-5, 1.0])
    states = ModulusStates(Modulus(matrix, 3), offset, None)
    result = solved_together(states, 1e-5, None)
    assert bool((result.residuals <= 1e-5).all())
    exact = solve_state(
        problem("picard", 1e-15), DenseOperator(matrix.double()), offset.double(), None
    ).value
    error = (result.value - exact).abs().amax(dim=1) / exact.amax(dim=1)
    assert float(error.max()) <= 1e-4  # tol / (1 − κ) with κ = 0.9


def test_a_costly_map_is_looked_at_in_parts_and_ends_samples_by_themselves() -> None:
    """More than 2**19 values, 5e6 multiplications a sample: as each of its samples alone."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(32, 32, 3, 3, generator=generator)
    kernel *= 0.9 / kernel.abs().sum(dim=(1, 2, 3), keepdim=True)
    operator = ConvolutionOperator(kernel, ConvolutionLayout(32, 24, 24, padding=1))
    sizes = torch.logspace(-3, 3, 60)[:, None]
    offset = sizes + torch.randn(60, 32 * 24 * 24, generator=generator)
    solved = solve_state(problem("auto", 1e-5), operator, offset, None)
    assert bool(solved.converged.all())
    assert len(solved.iterations.unique()) > 1
    for sample in (0, 30, 59):
        alone = solve_state(problem("auto", 1e-5), operator, offset[sample, None], None)
        assert int(alone.iterations) == int(solved.iterations[sample])
        torch.testing.assert_close(alone.value[0], solved.value[sample], rtol=1e-5, atol=1e-6)
    change = solved.value - get_activation("relu").function(operator.apply(solved.value, offset))
    sums = operator.magnitudes.apply(solved.value, offset.abs())
    assert float((change.abs() / sums).max()) <= 1e-5
