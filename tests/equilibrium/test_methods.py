from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.fixed_point import solve_fixed_point
from idl_cli.equilibrium.iterations.spectrum import Spectrum
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.problem import EquilibriumProblem, solve_state
from idl_cli.equilibrium.result import SolveStatus
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings


def slow_linear_map(size: int = 6) -> tuple[Tensor, Tensor]:
    """Return a symmetric A with eigenvalues up to 0.99, and offsets b for three samples."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.linspace(-0.9, 0.99, size, dtype=torch.float64)) @ basis.t()
    return matrix, torch.randn(3, size, generator=generator, dtype=torch.float64)


def test_anderson_with_a_full_window_ends_a_linear_problem_in_about_its_dimension() -> None:
    # On a linear map Anderson without truncation is GMRES (Walker and Ni 2011, theorem 2.2): exact
    # after as many steps as there are states; the regularisation and rounding cost a few more.
    matrix, offset = slow_linear_map()
    solve = {
        method: solve_fixed_point(
            lambda x: x @ matrix.t() + offset,
            torch.zeros_like(offset),
            FixedPointSettings(method, max_iter=5000, tol=1e-10, window=6, regularization=0.0),
        )
        for method in ("anderson", "picard")
    }
    assert solve["anderson"].status is solve["picard"].status is SolveStatus.CONVERGED
    assert int(solve["anderson"].iterations.max()) <= 12
    assert int(solve["picard"].iterations.min()) >= 1000


def test_anderson_never_loses_to_a_bad_proposal_on_a_contraction() -> None:
    # A piecewise linear contraction whose pieces mislead a secant: slopes ±0.95.
    def zigzag(x: Tensor) -> Tensor:
        return 0.95 * (x.remainder(2.0) - 1).abs() + 3 * torch.ones_like(x)

    start = torch.linspace(-40, 40, 200, dtype=torch.float64)[:, None].repeat(1, 3)
    result = solve_fixed_point(
        zigzag, start, FixedPointSettings("anderson", max_iter=2000, tol=1e-10)
    )
    assert result.status is SolveStatus.CONVERGED


def test_anderson_lets_a_slow_error_raise_the_residual_on_its_way_out() -> None:
    # Where each rise was taken back, this took 95 evaluations in the mean.
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(600, 600, generator=generator)
    matrix *= 0.99 / float(torch.linalg.eigvals(matrix).abs().max())
    offset = torch.randn(8, 600, generator=generator)
    result = solve_fixed_point(
        lambda x: torch.relu(x @ matrix.t() + offset),
        torch.zeros_like(offset),
        FixedPointSettings("anderson", max_iter=1000),
    )
    assert result.status is SolveStatus.CONVERGED
    assert float(result.iterations.double().mean()) <= 30


def test_one_sample_of_a_large_matrix_is_not_worth_finding_slow_modes_for() -> None:
    states = 2000
    operator = DenseOperator(torch.full((states, states), 0.99 / states))
    offset = torch.randn(2, states, generator=torch.Generator().manual_seed(0))
    for samples in (1, 2):
        auto, anderson = (
            solve_state(
                EquilibriumProblem(
                    DenseOperator,
                    get_activation("relu"),
                    FixedPointSettings(method, max_iter=1000),  # type: ignore[arg-type]
                    AdjointSettings(),
                    None,
                ),
                operator,
                offset[:samples],
                None,
            )
            for method in ("auto", "anderson")
        )
        assert auto.status is anderson.status is SolveStatus.CONVERGED
        assert torch.equal(auto.value, anderson.value) == (samples == 1)


def test_anderson_takes_the_picard_step_where_its_proposal_is_not_finite() -> None:
    # A constant map: after one step all differences vanish and the least squares are 0/0.
    target = torch.full((2, 3), 2.0)
    result = solve_fixed_point(
        lambda x: target.clone(),
        torch.zeros(2, 3),
        FixedPointSettings("anderson", regularization=0.0),
    )
    assert result.status is SolveStatus.CONVERGED
    assert torch.equal(result.value, target)


def test_anderson_in_float32_reaches_a_tight_tolerance() -> None:
    matrix, offset = slow_linear_map()
    result = solve_fixed_point(
        lambda x: x @ matrix.float().t() + offset.float(),
        torch.zeros(3, 6),
        FixedPointSettings("anderson", max_iter=300, tol=1e-6),
    )
    assert result.status is SolveStatus.CONVERGED


@pytest.mark.parametrize("method", ["picard", "anderson", "auto"])
def test_a_map_whose_plain_steps_swing_apart_is_solved_by_damped_ones(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    b = torch.randn(7, 5, generator=generator, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:  # a factor of −1.5 a step, 1 − 0.5 · 2.5 of a damped one
        return b - 1.5 * x

    settings = FixedPointSettings(method, max_iter=100, tol=1e-12, damping=0.5)
    result = solve_fixed_point(f, torch.zeros(7, 5).double(), settings)
    assert bool(result.converged.all())
    torch.testing.assert_close(result.value, b / 2.5, rtol=1e-11, atol=0)
    plain = FixedPointSettings("picard", max_iter=100, tol=1e-12)
    assert not bool(solve_fixed_point(f, torch.zeros(7, 5).double(), plain).converged.any())


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("signs", [False, True])
def test_the_first_look_is_about_where_all_is_over(radius: float, signs: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(100, 100, generator=generator) - 0.5 * signs
    matrix *= radius / torch.linalg.eigvals(matrix).abs().max()
    offset = torch.randn(64, 100, generator=generator)
    problem = EquilibriumProblem(
        DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
    )
    found = solve_state(problem, DenseOperator(matrix), offset, None)
    spent = int(found.iterations.max())
    assert found.status is SolveStatus.CONVERGED
    fewer = FixedPointSettings(max_iter=spent - 4)
    shorter = replace(problem, forward=fewer, spectrum=Spectrum())
    found = solve_state(shorter, DenseOperator(matrix), offset, None)
    assert found.status is SolveStatus.MAX_ITERATIONS
