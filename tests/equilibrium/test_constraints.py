import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_, row_l1_norms
from idl_cli.errors import ArgumentError


def random_matrix(rows: int, columns: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("radius", [0.1, 0.95, 3.0])
def test_agrees_with_a_quadratic_program(radius: float) -> None:
    matrix = random_matrix(6, 5)
    variable = cvxpy.Variable(matrix.shape)
    objective = cvxpy.Minimize(cvxpy.sum_squares(variable - matrix.numpy()))
    within = [cvxpy.norm1(variable[i]) <= radius for i in range(len(matrix))]
    cvxpy.Problem(objective, within).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    # An interior point stops at 1e-12 in the objective, about its square root in the point.
    np.testing.assert_allclose(project_rows_l1(matrix, radius).numpy(), variable.value, atol=2e-6)


matrices = st.tuples(
    st.integers(1, 6), st.integers(1, 40), st.integers(0, 10_000), st.floats(-3, 3)
)


@given(matrices, st.floats(1e-3, 10))
@settings(deadline=None, max_examples=100)
def test_satisfies_the_optimality_conditions(
    shape: tuple[int, int, int, float], radius: float
) -> None:
    rows, columns, seed, exponent = shape
    matrix = random_matrix(rows, columns, 10**exponent, seed)
    projected = project_rows_l1(matrix, radius)
    for row, result in zip(matrix, projected, strict=True):
        if row.abs().sum() <= radius:
            assert torch.equal(row, result)
            continue
        # w = sign(a) max(|a| − θ, 0) with one θ > 0 and ‖w‖₁ = radius.
        precision = 1e-12 * float(row.abs().max())
        assert float(result.abs().sum()) == pytest.approx(radius, rel=1e-12)
        support = result != 0
        threshold = (row - result).abs()[support]
        assert float(threshold.max() - threshold.min()) <= precision
        assert bool((row.abs()[~support] <= threshold.max() + precision).all())
        assert bool((result * row >= 0).all())


@given(matrices, st.floats(1e-3, 10))
@settings(deadline=None, max_examples=50)
def test_idempotent_and_never_beaten_by_a_feasible_point(
    shape: tuple[int, int, int, float], radius: float
) -> None:
    rows, columns, seed, exponent = shape
    matrix = random_matrix(rows, columns, 10**exponent, seed)
    projected = project_rows_l1(matrix, radius)
    # The sum of a projected row is the radius up to rounding, and so is all a second one can move.
    rounding = 1e-14 * radius
    torch.testing.assert_close(
        project_rows_l1(projected, radius), projected, rtol=1e-12, atol=rounding
    )
    distance = (matrix - projected).norm(dim=1)
    for other in range(20):
        feasible = random_matrix(rows, columns, 1.0, seed + 1 + other)
        feasible *= radius / feasible.abs().sum(dim=1, keepdim=True)
        assert bool((distance <= (matrix - feasible).norm(dim=1) * (1 + 1e-12)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
def test_scales_far_from_the_radius_lose_nothing(dtype: torch.dtype, scale: float) -> None:
    # The two largest entries differ by less than the radius whatever their size.
    row = torch.tensor([[scale, -scale, scale / 2, 0.0]], dtype=dtype)
    projected = project_rows_l1(row, 0.5)
    if scale < 0.1:
        assert torch.equal(projected, row)
    else:
        assert projected.tolist() == [[0.25, -0.25, 0.0, 0.0]]


def test_a_matrix_inside_is_returned_itself() -> None:
    matrix = random_matrix(4, 4, 0.01)
    assert project_rows_l1(matrix, 1.0) is matrix


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.95, 0.99]), st.integers(1, 200))
@settings(deadline=None, max_examples=100)
def test_what_is_stored_in_float32_obeys_the_bound(seed: int, radius: float, columns: int) -> None:
    matrix = random_matrix(8, columns, 5 * radius / columns, seed).float()
    original = matrix.clone()
    project_rows_l1_(matrix, radius)
    assert float(row_l1_norms(matrix).max()) <= radius
    inside = row_l1_norms(original) <= radius
    assert torch.equal(matrix[inside], original[inside])
    exact = project_rows_l1(original.double(), radius)
    # Rounding to float32 and the shrinking by 2 eps, relative to the ball.
    torch.testing.assert_close(matrix.double(), exact, rtol=0, atol=1e-6 * radius)


def test_the_stored_projection_works_on_a_transposed_view() -> None:
    factor = random_matrix(5, 3, 10.0)
    project_rows_l1_(factor.t(), 0.5)
    assert float(factor.abs().sum(dim=0).max()) <= 0.5


@pytest.mark.parametrize("scale", [0.05, 5.0])
def test_gradcheck_strictly_inside_and_strictly_beyond(scale: float) -> None:
    matrix = random_matrix(5, 6, scale).requires_grad_()
    norms = row_l1_norms(matrix)
    assert bool((norms < 0.9).all()) or bool((norms > 1.1).all())
    assert torch.autograd.gradcheck(lambda m: project_rows_l1(m, 1.0), (matrix,))
    assert torch.autograd.gradgradcheck(lambda m: project_rows_l1(m, 1.0), (matrix,))


def test_rows_inside_and_beyond_are_differentiated_each_by_itself() -> None:
    matrix = random_matrix(6, 5, 3.0)
    matrix[::2] *= 0.01
    assert torch.autograd.gradcheck(lambda m: project_rows_l1(m, 1.0), (matrix.requires_grad_(),))


def test_on_the_boundary_the_derivative_is_the_one_from_inside() -> None:
    row = torch.tensor([[0.25, -0.5, 0.25]], dtype=torch.float64, requires_grad=True)
    inward = torch.tensor([[-1.0, 0.5, -0.25]], dtype=torch.float64)
    step = 2.0**-20
    inside = project_rows_l1(row.detach() + step * inward, 1.0)
    one_sided = (inside - project_rows_l1(row.detach(), 1.0)) / step
    _, forward = torch.autograd.functional.jvp(lambda m: project_rows_l1(m, 1.0), (row,), (inward,))
    torch.testing.assert_close(forward, one_sided, rtol=1e-9, atol=1e-9)


def test_non_finite_entries_are_not_hidden() -> None:
    matrix = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0], [0.1, 0.2]])
    projected = project_rows_l1(matrix, 1.0)
    assert projected[:2].isnan().any(dim=1).tolist() == [True, True]
    assert torch.equal(projected[2], matrix[2])


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_radius_that_is_not_positive_is_refused(radius: float) -> None:
    with pytest.raises(ArgumentError, match="must be positive"):
        project_rows_l1(torch.zeros(2, 2), radius)


def test_only_floating_matrices_are_projected() -> None:
    with pytest.raises(ArgumentError, match="floating matrix"):
        project_rows_l1(torch.zeros(2, 2, 2), 1.0)
    with pytest.raises(ArgumentError, match="floating matrix"):
        project_rows_l1(torch.zeros(2, 2, dtype=torch.int64), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("columns", [20, 400, 5000])
@pytest.mark.parametrize("size", [1.001, 2.0, 100.0])
def test_rows_in_half_precision_are_rounded_to_the_inside(
    dtype: torch.dtype, columns: int, size: float
) -> None:
    radius = 0.95
    matrix = random_matrix(6, columns, 1.0, seed=0)
    matrix = (matrix * (radius * size / row_l1_norms(matrix)[:, None])).to(dtype)
    projected = project_rows_l1(matrix, radius)
    assert projected.dtype == dtype
    assert float(row_l1_norms(projected).max()) <= radius
    # One unit in the last place of every entry, the subnormal ones of float16 among them.
    exact = project_rows_l1(matrix.double(), radius)
    info = torch.finfo(dtype)
    torch.testing.assert_close(
        projected.double(), exact, rtol=info.eps, atol=info.smallest_normal * info.eps + 1e-6
    )
    assert torch.equal(project_rows_l1_(matrix.clone(), radius), projected)


def test_an_empty_matrix_is_left_as_it_is() -> None:
    for shape in ((0, 0), (0, 3), (3, 0)):
        assert project_rows_l1_(torch.empty(shape), 0.9).shape == shape
