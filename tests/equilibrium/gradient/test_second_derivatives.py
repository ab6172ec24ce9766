import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.constraints import project_rows_l1
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    DenseOperator,
    LowRankOperator,
    Operator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ConvergenceWarning

SMOOTH = ["tanh", "sigmoid", "softplus", "arctan", "sin", "gelu", "silu", "mish", "logsigmoid"]
FORMS = ["full", "low rank", "triangular"]


def constrained(form: str, radius: float, raw: tuple[Tensor, ...]) -> Operator:
    if form == "triangular":
        return StrictlyUpperTriangularOperator(raw[0].triu(1))
    if form == "full":
        return DenseOperator(project_rows_l1(raw[0], radius))
    left, right = raw
    root = radius**0.5
    return LowRankOperator(project_rows_l1(left, root), project_rows_l1(right.t(), root).t())


def raw_factors(form: str, size: int, norm: float, seed: int) -> tuple[Tensor, ...]:
    """Return the raw factors, each row (of L and of Rᵀ) with this l1 norm."""
    torch.manual_seed(seed)
    rows = [torch.randn(size, size)] if form != "low rank" else [torch.randn(size, 2)]
    if form == "low rank":
        rows.append(torch.randn(2, size))
    scaled = [(each / each.abs().sum(dim=1, keepdim=True) * norm).double() for each in rows]
    if form == "low rank":
        scaled[1] = scaled[1].t().contiguous()
    return tuple(each.requires_grad_() for each in scaled)


@given(
    size=st.integers(2, 4),
    samples=st.integers(1, 2),
    activation=st.sampled_from(SMOOTH),
    kappa=st.floats(0.1, 0.95),
    stretch=st.sampled_from([0.7, 1.8]),
    form=st.sampled_from(FORMS),
    method=st.sampled_from(["picard", "anderson"]),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=8, derandomize=True)
def test_gradgradcheck_inside_and_beyond_the_constraint(
    size: int,
    samples: int,
    activation: str,
    kappa: float,
    stretch: float,
    form: str,
    method: str,
    seed: int,
) -> None:
    phi = get_activation(activation)
    radius = kappa / phi.lipschitz
    norm = stretch * (radius**0.5 if form == "low rank" else radius)
    raw = raw_factors(form, size, norm, seed)
    offset = torch.randn(samples, size, dtype=torch.float64, requires_grad=True)

    def solved(offset: Tensor, *raw: Tensor) -> Tensor:
        return equilibrium(
            constrained(form, radius, raw),
            offset,
            phi,
            forward=FixedPointSettings(method, max_iter=5000, tol=1e-14),  # type: ignore[arg-type]
            backward=AdjointSettings(method, max_iter=5000, tol=1e-13),  # type: ignore[arg-type]
            statistics=SolveStatistics(warn=False),  # Anderson's last digits are rounding
        )

    assert gradgradcheck(solved, (offset, *raw))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("form", FORMS)
def test_forward_mode_equals_differences_also_over_backward_and_in_batches(form: str) -> None:
    raw = raw_factors(form, 3, 1.2, 1)
    offset = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def solved(offset: Tensor, *raw: Tensor) -> Tensor:
        return equilibrium(
            constrained(form, 0.8, raw),
            offset,
            get_activation("tanh"),
            forward=FixedPointSettings(max_iter=5000, tol=1e-14),
            backward=AdjointSettings(max_iter=5000, tol=1e-14),
        )

    inputs = (offset, *raw)
    assert gradcheck(
        solved,
        inputs,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    assert gradgradcheck(solved, inputs, check_fwd_over_rev=True, check_batched_grad=True)


def test_third_derivatives_are_exact_too() -> None:
    matrix = raw_factors("full", 2, 0.8, 3)[0].detach()
    offset = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)

    def slope(offset: Tensor) -> Tensor:
        x = equilibrium(
            DenseOperator(matrix),
            offset,
            get_activation("tanh"),
            forward=FixedPointSettings(max_iter=5000, tol=1e-14),
            backward=AdjointSettings(max_iter=5000, tol=1e-14),
        )
        return torch.autograd.grad(x.square().sum(), offset, create_graph=True)[0]

    assert gradgradcheck(slope, (offset,))


@pytest.mark.parametrize("activation", activation_names())
@pytest.mark.parametrize("form", FORMS)
def test_hessian_equals_that_of_unrolled_iterations(activation: str, form: str) -> None:
    phi = get_activation(activation)
    # Torch has no second derivative of its own hardsigmoid.
    function = (
        (lambda z: functional.relu6(z + 3) / 6) if activation == "hardsigmoid" else phi.function
    )
    radius = 0.5 / phi.lipschitz
    raw = tuple(each.detach() for each in raw_factors(form, 3, 2.0, 7))
    offset = 2 * torch.randn(2, 3, dtype=torch.float64)
    weights = torch.randn(2, 3, dtype=torch.float64)

    def implicit(offset: Tensor, *raw: Tensor) -> Tensor:
        x = equilibrium(
            constrained(form, radius, raw),
            offset,
            phi,
            forward=FixedPointSettings(max_iter=5000, tol=1e-14),
            backward=AdjointSettings(max_iter=5000, tol=1e-14),
        )
        return (weights * x.square()).sum()

    def unrolled(offset: Tensor, *raw: Tensor) -> Tensor:
        operator = constrained(form, radius, raw)
        x = torch.zeros_like(offset)
        for _ in range(50):
            x = function(operator.apply(x, offset))
        return (weights * x.square()).sum()

    inputs = (offset, *raw)
    found, expected = (
        whole(torch.autograd.functional.hessian(loss, inputs), inputs)
        for loss in (implicit, unrolled)
    )
    assert float((found - expected).abs().max()) <= 1e-8 * (1 + float(expected.abs().max()))
    assert float((found - found.t()).abs().max()) <= 1e-8 * (1 + float(expected.abs().max()))


def whole(blocks: tuple[tuple[Tensor, ...], ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """Put the blocks of a Hessian together."""
    rows = [
        torch.cat([block.reshape(given.numel(), -1) for block in row], dim=1)
        for row, given in zip(blocks, inputs, strict=True)
    ]
    return torch.cat(rows)


def test_the_first_derivative_is_the_same_whether_or_not_it_is_differentiated() -> None:
    raw = raw_factors("full", 5, 0.9, 2)
    offset = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    x = equilibrium(constrained("full", 0.8, raw), offset, get_activation("tanh"))
    plain, again = (
        torch.autograd.grad(x.square().sum(), (offset, *raw), retain_graph=True, create_graph=graph)
        for graph in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_an_unconverged_second_solve_is_counted_and_warned_of() -> None:
    statistics = SolveStatistics()
    matrix = raw_factors("full", 5, 0.95, 2)[0].detach().abs()
    offset = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    x = equilibrium(
        DenseOperator(matrix),
        offset,
        get_activation("identity"),
        forward=FixedPointSettings(max_iter=5000),
        backward=AdjointSettings(max_iter=7, tol=1e-9),
        statistics=statistics,
    )
    with pytest.warns(ConvergenceWarning, match="adjoint"):
        (first,) = torch.autograd.grad(x.square().sum(), offset, create_graph=True)
    statistics.reset()
    with pytest.warns(ConvergenceWarning, match="adjoint"):
        torch.autograd.grad(first.square().sum(), offset)
    assert statistics.summary()["backward_unconverged_share"] == 1
