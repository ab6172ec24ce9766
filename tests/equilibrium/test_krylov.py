"""BiCGSTAB against direct solves, and equilibria whose slow modes are a continuum."""

import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.iterations.krylov import bicgstab
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.problem import EquilibriumProblem, solve_adjoint, solve_state
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings

SAMPLES, STATES = 9, 40


def slopes_and_matrix() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(STATES, STATES, generator=generator, dtype=torch.float64)
    slopes = torch.rand(SAMPLES, STATES, generator=generator, dtype=torch.float64)
    return slopes, 0.9 * matrix / matrix.abs().sum(dim=1, keepdim=True)


@pytest.mark.parametrize("reduction", [1e-2, 1e-6, 1e-12])
def test_every_system_is_solved_as_far_as_asked(reduction: float) -> None:
    slopes, matrix = slopes_and_matrix()
    r = torch.randn(SAMPLES, STATES, generator=torch.Generator().manual_seed(1)).double()
    delta, share, products = bicgstab(
        lambda v: slopes * (v @ matrix.t()), r, reduction=reduction, most=200
    )
    assert bool((share <= reduction).all())
    assert products % 2 == 0
    left = r - delta + slopes * (delta @ matrix.t())
    assert bool((left.norm(dim=1) <= 1.01 * reduction * r.norm(dim=1)).all())  # 1 %: rounding
    systems = torch.eye(STATES).double() - slopes[:, :, None] * matrix
    exact = torch.linalg.solve(systems, r[:, :, None]).squeeze(2)
    # ‖(I − DA)⁻¹‖∞ ≤ 10, and the norms differ by √n.
    error = (delta - exact).abs().amax(dim=1)
    assert bool((error <= 10 * reduction * STATES**0.5 * r.norm(dim=1)).all())


def test_a_system_without_a_solution_harms_no_other_and_is_made_no_worse() -> None:
    slopes, matrix = slopes_and_matrix()
    matrix = torch.eye(STATES).double() * 0.5
    slopes[3] = 2.0  # I − DA = 0
    r = torch.ones(SAMPLES, STATES).double()
    r[5] = 0
    delta, left, _ = bicgstab(lambda v: slopes * (v @ matrix), r, reduction=1e-12, most=200)
    assert left[3] == 1
    assert left[5] == 0
    assert not bool(delta[3].any())
    assert not bool(delta[5].any())
    others = [i for i in range(SAMPLES) if i != 3]
    torch.testing.assert_close(delta[others], (r / (1 - 0.5 * slopes))[others])


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_the_size_of_the_right_hand_side_changes_nothing_but_the_size(exponent: int) -> None:
    slopes, matrix = (each.float() for each in slopes_and_matrix())
    r = torch.randn(SAMPLES, STATES, generator=torch.Generator().manual_seed(1))

    def solved(r: Tensor) -> Tensor:
        return bicgstab(lambda v: slopes * (v @ matrix.t()), r, reduction=1e-4, most=200)[0]

    assert torch.equal(solved(r * 2.0**exponent), solved(r) * 2.0**exponent)


def ring(states: int, radius: float) -> Tensor:
    """A cyclic shift, whose systems BiCGSTAB does not solve."""
    return radius * torch.eye(states).roll(1, 0)


def test_systems_that_a_krylov_method_cannot_solve_are_factorised_or_left() -> None:
    generator = torch.Generator().manual_seed(0)
    problem = EquilibriumProblem(
        DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
    )
    slopes = torch.ones(1, 700)  # 3.4e8 multiplications: factorised at last
    gradient = torch.randn(1, 700, generator=generator)
    adjoint = solve_adjoint(problem, DenseOperator(ring(700, 0.999)), slopes, gradient)
    assert bool(adjoint.converged.all())
    # Too large for that, and no contraction: what is spent is bounded, and said.
    calls = []

    class Counting(DenseOperator):
        def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
            calls.append(1)
            return super().apply_transpose(v, offset, out)

    gradient = torch.randn(2, 1100, generator=generator)
    found = solve_adjoint(problem, Counting(ring(1100, 1.2)), torch.ones(2, 1100), gradient)
    assert not bool(found.converged.all())
    assert int(found.iterations.max()) <= 500
    assert len(calls) <= 800  # with the products of looks, of modes and of the last step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_continuum_of_slow_modes_takes_few_evaluations_where_no_factorisation_is_affordable(
    dtype: torch.dtype,
) -> None:
    states, samples = 300, 80  # 2e9 multiplications a factorisation
    neighbours = torch.ones(states, states).triu(-1).tril(1).fill_diagonal_(0).to(dtype)
    operator = DenseOperator(0.495 * neighbours)
    generator = torch.Generator().manual_seed(0)
    offset, gradient = (torch.randn(samples, states, generator=generator).to(dtype) for _ in "bg")
    problem = EquilibriumProblem(
        DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
    )
    found = solve_state(problem, operator, offset, None)
    assert bool(found.converged.all())
    assert int(found.iterations.max()) <= 450  # products; plain steps: about 900
    slopes = (found.value > 0).to(dtype)
    adjoint = solve_adjoint(problem, operator, slopes, gradient)
    assert bool(adjoint.converged.all())
    assert int(adjoint.iterations.max()) <= 250
    matrix = operator.matrix.double()
    systems = torch.eye(states).double() - slopes.double()[:, :, None] * matrix
    exact = torch.linalg.solve(systems, (slopes * offset).double()[:, :, None]).squeeze(2)
    v = torch.linalg.solve(systems.mT, gradient.double()[:, :, None]).squeeze(2) * slopes
    # tol/(1 − ρ) with ρ = 0.99, twice where the residual is that of the iterate before.
    for value, wanted in ((found.value, exact), (adjoint.value, v)):
        error = (value - wanted).abs().amax(dim=1) / wanted.abs().amax(dim=1)
        assert float(error.max()) <= 2e-3
