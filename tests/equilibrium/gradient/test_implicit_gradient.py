import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.constraints import project_rows_l1, row_l1_norms
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    DenseOperator,
    LowRankOperator,
    Operator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError, ConvergenceWarning, ShapeError

EXACT = FixedPointSettings(max_iter=5000, tol=1e-15)
EXACT_ADJOINT = AdjointSettings(max_iter=5000, tol=1e-15)

SAMPLES, STATES, RANK = 3, 5, 2
RADIUS = {"full": 0.5, "low rank": 0.7}


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rows_of_norm(matrix: Tensor, norm: float) -> Tensor:
    return matrix * (norm / matrix.abs().sum(dim=1, keepdim=True))


def factors(form: str, norm: float) -> tuple[Tensor, ...]:
    """Return the raw factors of an A, each row (of L and of Rᵀ) with this l1 norm."""
    if form == "low rank":
        left = rows_of_norm(normal(STATES, RANK, seed=1), norm)
        return left, rows_of_norm(normal(RANK, STATES, seed=2), norm).t().contiguous()
    return (rows_of_norm(normal(STATES, STATES, seed=1), norm),)


def constrained(form: str, raw: tuple[Tensor, ...]) -> Operator:
    if form == "triangular":
        return StrictlyUpperTriangularOperator(raw[0].triu(1))
    if form == "full":
        return DenseOperator(project_rows_l1(raw[0], RADIUS[form]))
    left, right = raw
    return LowRankOperator(
        project_rows_l1(left, RADIUS[form]), project_rows_l1(right.t(), RADIUS[form]).t()
    )


def solve(operator: Operator, offset: Tensor, activation: str, **settings: object) -> Tensor:
    return equilibrium(
        operator,
        offset,
        get_activation(activation),
        forward=settings.get("forward", EXACT),  # type: ignore[arg-type]
        backward=settings.get("backward", EXACT_ADJOINT),  # type: ignore[arg-type]
        statistics=SolveStatistics(warn=False),
    )


@pytest.mark.parametrize("activation", activation_names())
@pytest.mark.parametrize(
    ("form", "norm"),
    [
        pytest.param("full", 0.4, id="full strictly inside"),
        pytest.param("full", 1.5, id="full strictly beyond"),
        pytest.param("low rank", 0.6, id="low rank strictly inside"),
        pytest.param("low rank", 1.5, id="low rank strictly beyond"),
        pytest.param("triangular", 1.5, id="triangular"),
    ],
)
def test_gradcheck_through_the_constraint(activation: str, form: str, norm: float) -> None:
    raw = factors(form, norm)
    # Off the kinks at 0, ±0.5, ±1, ±3 and 6, where no derivative is the limit of differences.
    offset = 2 * normal(SAMPLES, STATES, seed=3)

    def solved(offset: Tensor, *raw: Tensor) -> Tensor:
        return solve(constrained(form, raw), offset, activation)

    z = constrained(form, raw).apply(solved(offset, *raw), offset)
    kinks = torch.tensor([0, 0.5, -0.5, 1, -1, 3, -3, 6]).double()
    assert float((z[..., None] - kinks).abs().min()) > 1e-4
    inputs = tuple(tensor.requires_grad_() for tensor in (offset, *raw))
    assert torch.autograd.gradcheck(solved, inputs)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_on_the_boundary_the_gradient_is_the_one_sided_one(activation: str) -> None:
    # Rows of dyadic entries with l1 norm exactly 0.5, the radius.
    raw = torch.tensor([[0.125, -0.25, 0.125], [0.25, 0.125, -0.125], [-0.5, 0, 0]]).double()
    assert row_l1_norms(raw).tolist() == [0.5] * 3
    offset = normal(SAMPLES, 3, seed=3)

    def loss(matrix: Tensor) -> Tensor:
        operator = DenseOperator(project_rows_l1(matrix, 0.5))
        return (solve(operator, offset, activation) * normal(SAMPLES, 3, seed=4)).sum()

    matrix = raw.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(matrix), matrix)
    inward = -raw * normal(3, 3, seed=5).abs()
    step = 1e-6
    # Second-order one-sided difference: its error is about step² plus rounding over step.
    one_sided = (-3 * loss(raw) + 4 * loss(raw + step * inward) - loss(raw + 2 * step * inward)) / (
        2 * step
    )
    assert float((gradient * inward).sum()) == pytest.approx(float(one_sided), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("method", ["picard", "anderson", "auto"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("norm", [0.5, 0.88, 0.95])
def test_equals_the_gradient_through_2000_unrolled_iterations(
    norm: float, activation: str, method: str
) -> None:
    if norm * get_activation(activation).lipschitz >= 1:
        norm = 0.95 / get_activation(activation).lipschitz
    size = 20
    # Positive rows of equal sums: the slowest case, with spectral radius κ itself.
    matrix = rows_of_norm(normal(size, size, seed=1).abs(), norm).requires_grad_()
    offset = (normal(4, size, seed=2) + 0.5).requires_grad_()
    weight = normal(4, size, seed=3)
    phi = get_activation(activation).function
    x = torch.zeros_like(offset)
    for _ in range(2000):
        x = phi(x @ matrix.t() + offset)
    unrolled = torch.autograd.grad((x * weight).sum(), (matrix, offset))
    solved = solve(
        DenseOperator(matrix),
        offset,
        activation,
        forward=FixedPointSettings(method, max_iter=5000, tol=1e-14),  # type: ignore[arg-type]
        backward=AdjointSettings(method, max_iter=5000, tol=1e-14),  # type: ignore[arg-type]
    )
    implicit = torch.autograd.grad((solved * weight).sum(), (matrix, offset))
    for mine, reference in zip(implicit, unrolled, strict=True):
        assert float((mine - reference).abs().max()) <= 1e-8 * (1 + float(reference.abs().max()))


def test_a_tolerance_bounds_the_error_of_the_gradient() -> None:
    operator = constrained("full", factors("full", 0.45))
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    exact = torch.autograd.grad(solve(operator, offset, "tanh").sum(), offset)[0]
    for tol in (1e-2, 1e-4, 1e-6):
        loose = AdjointSettings(tol=tol)
        x = solve(operator, offset, "tanh", backward=loose)
        gradient = torch.autograd.grad(x.sum(), offset)[0]
        # ‖v − v*‖∞ ≤ residual / (1 − ‖Aᵀ‖) samplewise, here with ‖Aᵀ‖∞ below 0.9.
        assert float(operator.factors[0].abs().sum(dim=0).max()) < 0.9
        assert float((gradient - exact).abs().max()) <= tol / (1 - 0.9)


def test_jacobian_free_takes_the_last_iteration_for_the_only_one() -> None:
    raw = factors("full", 0.4)[0].requires_grad_()
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    weight = normal(SAMPLES, STATES, seed=4)
    statistics = SolveStatistics()
    x = equilibrium(
        DenseOperator(raw),
        offset,
        get_activation("tanh"),
        forward=EXACT,
        backward=AdjointSettings(method="jacobian_free"),
        statistics=statistics,
    )
    inexact = torch.autograd.grad((x * weight).sum(), (raw, offset))
    once = torch.tanh(x.detach() @ raw.t() + offset)
    expected = torch.autograd.grad((once * weight).sum(), (raw, offset))
    for mine, reference in zip(inexact, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-12)
    assert "backward_iterations_mean" not in statistics.summary()


def test_a_gradient_scaled_down_is_solved_as_accurately() -> None:
    operator = constrained("full", factors("full", 0.45))
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    x = solve(operator, offset, "tanh", backward=AdjointSettings(tol=1e-6))
    gradient, tiny = (
        torch.autograd.grad(x, offset, scale * torch.ones_like(x), retain_graph=True)[0]
        for scale in (1.0, 2.0**-60)
    )
    assert torch.equal(tiny * 2.0**60, gradient)


def test_a_sample_without_a_gradient_is_no_failure() -> None:
    operator = constrained("full", factors("full", 0.45))
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    statistics = SolveStatistics()
    x = equilibrium(operator, offset, get_activation("relu"), statistics=statistics)
    (gradient,) = torch.autograd.grad(x[0].sum(), offset)
    assert not bool(gradient[1:].any())
    assert statistics.summary()["backward_unconverged_share"] == 0


def test_the_start_changes_the_way_and_not_the_end() -> None:
    operator = constrained("full", factors("full", 0.45))
    offset = normal(SAMPLES, STATES, seed=3)
    reference = solve(operator, offset, "tanh")
    begun = equilibrium(
        operator, offset, get_activation("tanh"), forward=EXACT, start=100 + 0 * offset
    )
    torch.testing.assert_close(begun, reference, rtol=1e-14, atol=1e-14)
    again = SolveStatistics()
    equilibrium(operator, offset, get_activation("tanh"), start=reference, statistics=again)
    assert again.summary()["residual_max"] <= 1e-14


def test_a_triangular_solve_ignores_methods_and_tolerances() -> None:
    operator = constrained("triangular", factors("triangular", 30.0))
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    loose = {
        "forward": FixedPointSettings("anderson", max_iter=1, tol=1.0),
        "backward": AdjointSettings("jacobian_free", max_iter=1, tol=1.0),
    }
    values = solve(operator, offset, "elu"), solve(operator, offset, "elu", **loose)
    assert torch.equal(*values)
    gradients = [torch.autograd.grad(value.sum(), offset)[0] for value in values]
    assert torch.equal(*gradients)


def test_only_asked_gradients_are_computed() -> None:
    raw = factors("full", 0.4)[0]
    offset = normal(SAMPLES, STATES, seed=3).requires_grad_()
    x = solve(DenseOperator(raw), offset, "tanh")
    x.sum().backward()
    assert raw.grad is None
    assert offset.grad is not None


def test_an_unconverged_solve_warns_once_and_is_counted() -> None:
    statistics = SolveStatistics()
    offset = normal(SAMPLES, STATES, seed=3)
    short = FixedPointSettings(max_iter=2, tol=1e-12)
    arguments = (DenseOperator(factors("full", 0.9)[0]), offset, get_activation("tanh"))
    with pytest.warns(ConvergenceWarning, match="Raise max_iter"):
        equilibrium(*arguments, forward=short, statistics=statistics)
    equilibrium(*arguments, forward=short, statistics=statistics)
    assert statistics.summary()["unconverged_share"] == 1


def test_wrong_shapes_are_refused() -> None:
    operator = DenseOperator(torch.zeros(3, 3))
    with pytest.raises(ShapeError, match=r"offset has shape \(2, 4\)"):
        equilibrium(operator, torch.zeros(2, 4), get_activation("relu"))
    with pytest.raises(ShapeError, match=r"start has shape \(1, 3\)"):
        equilibrium(operator, torch.zeros(2, 3), get_activation("relu"), start=torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"method": "newton"}, "'newton' is not known.*jacobian_free"), ({"tol": -1.0}, "tol=-1")],
)
def test_adjoint_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AdjointSettings(**change)  # type: ignore[arg-type]
