"""Deep networks in implicit form: states of a thousandth of others' size are solved as well."""

import pytest
import torch
from torch import Tensor, nn

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_
from idl_cli.models.conversion import from_feedforward
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rescaling import rescale
from idl_cli.models.rnn import ImplicitRNN

INPUTS = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))


def network(depth: int, *, bias: bool) -> nn.Sequential:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers += [nn.Linear(24 if layer else 10, 24, bias=bias), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(24, 5, bias=bias)).eval()
    for linear in net[::2]:
        nn.init.kaiming_normal_(linear.weight)
    return net


def implicit(
    net: nn.Sequential, *, echo: float = 0.0, shuffled: bool = False, **changes: object
) -> ImplicitModel:
    """The rescaled network under ‖A‖∞ ≤ κ; ``echo`` is what its states feed back."""
    exact = rescale(from_feedforward(net), 0.9)
    n = exact.hidden_dim
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1)) if shuffled else range(n)
    order = torch.as_tensor(order)
    bias = None if exact.state_bias is None else exact.state_bias[order]
    A = exact.A + echo * torch.eye(n, dtype=exact.A.dtype)
    return ImplicitModel.from_weights(
        A[order][:, order],
        exact.B[order],
        exact.C[:, order],
        exact.D,
        state_bias=bias,
        output_bias=exact.output_bias,
        kappa=0.9 + echo,
        **changes,
    )


@torch.no_grad()
def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 5, 8, 10, 12, 15, 20])
def test_a_network_of_any_depth_is_solved_exactly_in_one_sweep(depth: int, bias: bool) -> None:
    net = network(depth, bias=bias)
    wanted = net.double()(INPUTS.double()).detach()
    for shuffled in (False, True):
        model = implicit(network(depth, bias=bias), shuffled=shuffled)
        assert relative_error(model(INPUTS), wanted) < 1e-6 * depth
        assert model.solve_statistics.summary()["iterations_max"] == 1


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("depth", [2, 6, 10, 14, 20])
def test_weak_feedback_leaves_small_states_as_accurate(depth: int, bias: bool) -> None:
    echo, tol = 1e-4, 1e-6
    model = implicit(network(depth, bias=bias).double(), echo=echo, forward={"tol": tol})
    tight = implicit(network(depth, bias=bias).double(), echo=echo, forward={"tol": 1e-15})
    found, exact = (each.equilibrium(INPUTS.double()).detach() for each in (model, tight))
    summary = model.solve_statistics.summary()
    assert summary["unconverged_share"] == 0
    assert summary["iterations_max"] > 1  # an echo cannot be swept
    # |x − x*| ≤ tol (I − |A|)⁻¹ (|A||x| + |b|), state by state.
    weights = model.effective_weights()
    offset = INPUTS.double() @ weights.B.t() + weights.state_bias
    summed = exact @ weights.A.abs().t() + offset.abs()
    identity = torch.eye(len(weights.A)).double()
    bound = tol * torch.linalg.solve(identity - weights.A.abs(), summed.t()).t()
    assert bool(((found - exact).abs() <= 1.01 * bound).all())
    single = implicit(network(depth, bias=bias), echo=echo, forward={"tol": tol})
    wanted = tight(INPUTS.double()).detach()
    assert relative_error(single(INPUTS), wanted) < 2e-6 * depth
    assert single.solve_statistics.summary()["unconverged_share"] == 0


def test_a_swept_model_has_the_gradients_of_an_iterated_one() -> None:
    swept = implicit(network(3, bias=True).double(), shuffled=True)
    iterated = ImplicitModel.from_weights(  # a state more, that feeds back on itself alone
        torch.block_diag(swept.A.detach(), torch.full((1, 1), 0.5).double()),
        torch.cat((swept.B.detach(), torch.zeros(1, 10).double())),
        torch.cat((swept.C.detach(), torch.zeros(5, 1).double()), dim=1),
        swept.D,
        state_bias=torch.cat((swept.state_bias.detach(), torch.zeros(1).double())),
        output_bias=swept.output_bias,
        forward={"tol": 1e-14},
        backward={"tol": 1e-14},
    )
    n = swept.hidden_dim
    for model in (swept, iterated):
        model(INPUTS.double()).square().sum().backward()
    torch.testing.assert_close(swept.A.grad, iterated.A.grad[:n, :n], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(swept.B.grad, iterated.B.grad[:n], rtol=1e-10, atol=1e-10)
    assert bool((swept.A.grad[swept.A == 0] != 0).any())  # entries that are zero may grow
    assert swept.solve_statistics.summary()["backward_iterations_max"] == 1


def test_a_recurrence_without_feedback_is_swept_too() -> None:
    torch.manual_seed(0)
    model = ImplicitRNN(2, 3, 6, 4, bias=True).double()
    cell = model.implicit_models()[0]
    order = torch.randperm(6)
    with torch.no_grad():
        cell.A.copy_((0.2 * torch.randn(6, 6).triu(1))[order][:, order])
    inputs = torch.randn(5, 4, 2).double()
    wanted = [torch.zeros(5, 4).double()]
    for step in range(4):
        wanted.append(model.cells[0](inputs[:, step], wanted[-1]))
    model.solve_statistics.reset()
    torch.testing.assert_close(model(inputs), model.readout(wanted[-1]), rtol=1e-12, atol=1e-12)
    assert model.solve_statistics.summary()["iterations_max"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_on_the_ball_neither_fills_zeros_nor_touches_small_entries(
    dtype: torch.dtype,
) -> None:
    row = torch.tensor([[0.3, -0.3, 0.35, 1e-9, 0.0, 0.0]], dtype=dtype)
    radius = float(row.double().abs().sum()) * (1 - torch.finfo(dtype).eps)
    assert project_rows_l1(row, radius) is row
    shrunk = project_rows_l1_(row.clone(), radius)
    assert float(shrunk.double().abs().sum()) <= radius
    torch.testing.assert_close(shrunk, row, rtol=8 * torch.finfo(dtype).eps, atol=0)
    beyond = project_rows_l1((1 + 1e-6) * row, radius)
    assert not beyond[:, 4:].any()
