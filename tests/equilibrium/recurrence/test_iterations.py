import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.recurrence.driver import NarrowDriver, NarrowResult, state_major
from idl_cli.equilibrium.recurrence.iterations import (
    Modulus,
    ModulusAdjoints,
    ModulusStates,
    PlainAdjoints,
    PlainStates,
    StepIterations,
)

SAMPLES, STATES = 40, 12


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def feedback(kappa: float) -> Tensor:
    matrix = normal(STATES, STATES, seed=1)
    return kappa * matrix / matrix.abs().sum(dim=1, keepdim=True)


def offsets() -> Tensor:
    return state_major(SAMPLES, STATES, normal(1, seed=0)).copy_(normal(SAMPLES, STATES, seed=2))


def drive(iterations: StepIterations, scale: Tensor | None = None) -> NarrowResult:
    return NarrowDriver(max_iter=5000, tol=1e-14, first_check=5).solve(iterations, scale)


def buffers() -> tuple[Tensor, Tensor]:
    like = normal(1, seed=0)
    return state_major(SAMPLES, STATES, like), state_major(SAMPLES, STATES, like)


@pytest.mark.parametrize("kappa", [0.5, 0.95, 0.99])
def test_modulus_kernel_contracts_faster_than_the_equation(kappa: float) -> None:
    modulus = Modulus(feedback(kappa), SAMPLES)
    norm = modulus.kernel.abs().sum(dim=1).max()
    # ‖((1 + ω)I − A)⁻¹‖∞ ≤ 1/(1 + ω − κ) and ‖A − (1 − ω)I‖∞ ≤ 1 − ω + κ.
    assert norm <= (1 - modulus.weight + kappa) / (1 + modulus.weight - kappa) + 1e-12
    assert norm < kappa


def test_the_weight_is_given_up_where_the_kernel_would_not_contract() -> None:
    # A cycle of states, whose eigenvalues go round the whole circle.
    cycle = 0.99 * torch.eye(STATES, dtype=torch.float64).roll(1, 0)
    assert Modulus(feedback(0.95), SAMPLES).weight < 1
    modulus = Modulus(cycle, SAMPLES)
    assert modulus.weight == 1
    assert modulus.kernel.abs().sum(dim=1).max() < 1


@pytest.mark.parametrize("start", [None, 3.0])
def test_modulus_and_plain_states_meet_in_the_equilibrium(start: float | None) -> None:
    matrix, b = feedback(0.95), offsets()
    first = None if start is None else torch.full_like(b, start)
    modulus = drive(ModulusStates(Modulus(matrix, SAMPLES), b, first))
    plain_start = torch.zeros_like(b) if first is None else first
    plain = drive(
        PlainStates(DenseOperator(matrix), get_activation("relu"), b, plain_start, buffers())
    )
    x = modulus.value
    torch.testing.assert_close(torch.relu(x @ matrix.t() + b), x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(x, plain.value, rtol=1e-12, atol=1e-12)
    assert isinstance(modulus.iterations, int)
    assert isinstance(plain.iterations, int)
    assert modulus.iterations < plain.iterations


def test_modulus_and_plain_adjoints_meet_in_the_linear_solution() -> None:
    matrix, gradient = feedback(0.95), offsets()
    slopes = (normal(SAMPLES, STATES, seed=3) > 0).double()
    scale = gradient.abs().amax(dim=1)
    operator = DenseOperator(matrix)
    found = [
        drive(ModulusAdjoints(Modulus(matrix, SAMPLES), slopes, gradient), scale).value,
        drive(PlainAdjoints(operator, slopes, gradient, buffers()), scale).value,
    ]
    # v = D (g + Aᵀv), one linear system a sample.
    systems = torch.eye(STATES) - slopes[:, :, None] * matrix.t()
    expected = torch.linalg.solve(systems, (slopes * gradient)[:, :, None]).squeeze(2)
    for v in found:
        torch.testing.assert_close(v, expected, rtol=1e-11, atol=1e-12)


def test_restricted_iterations_go_on_with_the_samples_kept() -> None:
    matrix, b = feedback(0.9), offsets()
    kept = torch.tensor([3, 17, 31])
    slopes = (normal(SAMPLES, STATES, seed=3) > 0).double()
    operator, relu = DenseOperator(matrix), get_activation("relu")

    def everything() -> list[StepIterations]:
        return [
            PlainStates(operator, relu, b, torch.zeros_like(b), buffers()),
            ModulusStates(Modulus(matrix, SAMPLES), b, None),
            PlainAdjoints(operator, slopes, b, buffers()),
            ModulusAdjoints(Modulus(matrix, SAMPLES), slopes, b),
        ]

    for whole, part in zip(everything(), everything(), strict=True):
        whole.advance(3)
        part.advance(3)
        part.restrict(kept)
        whole.advance(4)
        part.advance(4)
        x, image = part.check()
        expected_x, expected_image = whole.check()
        torch.testing.assert_close(x, expected_x[kept], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(image, expected_image[kept], rtol=1e-13, atol=1e-13)
