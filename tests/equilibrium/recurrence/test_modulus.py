import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.engine import Iterations, solve
from idl_cli.equilibrium.fixed_point import Steps
from idl_cli.equilibrium.iterations.picard import Picard
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.problem import AdjointMap, EquilibriumProblem, StateMap
from idl_cli.equilibrium.recurrence.layout import state_major
from idl_cli.equilibrium.recurrence.modulus import Modulus, ModulusAdjoints, ModulusStates
from idl_cli.equilibrium.recurrence.together import Together
from idl_cli.equilibrium.residual import reachable
from idl_cli.equilibrium.result import FixedPointResult
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings

SAMPLES, STATES = 40, 12


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def feedback(kappa: float) -> Tensor:
    matrix = normal(STATES, STATES, seed=1)
    return kappa * matrix / matrix.abs().sum(dim=1, keepdim=True)


def offsets() -> Tensor:
    return state_major(SAMPLES, STATES, normal(1, seed=0)).copy_(normal(SAMPLES, STATES, seed=2))


def drive(iterations: Iterations, scale: Tensor | None = None) -> FixedPointResult:
    policy = Together(first_check=5, rounding=reachable(0, torch.float64))
    return solve(iterations, policy, max_iter=5000, tol=1e-14, scale=scale)


PROBLEM = EquilibriumProblem(
    DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
)


def plain_states(matrix: Tensor, b: Tensor, start: Tensor) -> Steps:
    spare = state_major(SAMPLES, STATES, b)
    return Steps(StateMap(PROBLEM, DenseOperator(matrix), b), Picard(STATES), start.clone(), spare)


def plain_adjoints(matrix: Tensor, slopes: Tensor, gradient: Tensor) -> Steps:
    function = AdjointMap(PROBLEM, DenseOperator(matrix), slopes, gradient)
    return Steps(
        function, Picard(STATES), slopes * gradient, state_major(SAMPLES, STATES, gradient)
    )


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
    plain = drive(plain_states(matrix, b, plain_start))
    x = modulus.value
    torch.testing.assert_close(torch.relu(x @ matrix.t() + b), x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(x, plain.value, rtol=1e-12, atol=1e-12)
    assert isinstance(modulus.spent, int)
    assert isinstance(plain.spent, int)
    assert modulus.spent < plain.spent


def test_modulus_and_plain_adjoints_meet_in_the_linear_solution() -> None:
    matrix, gradient = feedback(0.95), offsets()
    slopes = (normal(SAMPLES, STATES, seed=3) > 0).double()
    scale = gradient.abs().amax(dim=1)
    found = [
        drive(ModulusAdjoints(Modulus(matrix, SAMPLES), slopes, gradient), scale).value,
        drive(plain_adjoints(matrix, slopes, gradient), scale).value,
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

    def everything() -> list[Iterations]:
        return [
            plain_states(matrix, b, torch.zeros_like(b)),
            ModulusStates(Modulus(matrix, SAMPLES), b, None),
            plain_adjoints(matrix, slopes, b),
            ModulusAdjoints(Modulus(matrix, SAMPLES), slopes, b),
        ]

    for whole, part in zip(everything(), everything(), strict=True):
        whole.advance(3)
        part.advance(3)
        part.restrict(kept)
        whole.advance(4)
        part.advance(4)
        x, image = part.look()
        expected_x, expected_image = whole.look()
        torch.testing.assert_close(x, expected_x[kept], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(image, expected_image[kept], rtol=1e-13, atol=1e-13)


def test_adjoints_of_fewer_and_fewer_samples_are_judged_by_their_own_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    matrix *= 0.9 / matrix.sum(dim=1, keepdim=True)
    gradient = state_major(8, 6, matrix).copy_(torch.randn(8, 6, generator=generator))
    slopes = state_major(8, 6, matrix).fill_(1)
    adjoints = ModulusAdjoints(Modulus(matrix, 8), slopes, gradient)
    for kept in ([1, 3, 4, 7], [0, 2]):
        adjoints.known()
        adjoints.restrict(torch.tensor(kept))
    torch.testing.assert_close(adjoints.known(), gradient[[1, 4]].abs())
