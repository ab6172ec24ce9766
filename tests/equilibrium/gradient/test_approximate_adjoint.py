"""Inexact adjoints are the truncated series that they are said to be, and their error is told."""

from functools import partial

import pytest
import torch
from torch import Tensor

from idl_cli import ImplicitModel, ImplicitRNN, fixed_point
from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError

METHODS = ["jacobian_free", "neumann", "phantom"]
SIZE, SAMPLES = 6, 3


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    matrix = normal(SIZE, SIZE)
    matrix *= 0.8 / matrix.abs().sum(dim=1).max()
    return matrix, normal(SAMPLES, SIZE), normal(SAMPLES, SIZE)


def gradient(backward: AdjointSettings, counts: SolveStatistics | None = None) -> Tensor:
    """∂loss/∂b of x = tanh(Ax + b) for a given ∂loss/∂x."""
    matrix, offset, g = drawn()
    offset.requires_grad_()
    forward = FixedPointSettings(tol=1e-14)
    tanh = get_activation("tanh")
    x = equilibrium(DenseOperator(matrix), offset, tanh,
                    forward=forward, backward=backward, statistics=counts)  # fmt: skip
    return torch.autograd.grad(x, offset, g)[0]


def unrolled(steps: int, part: float) -> Tensor:
    """The gradient of so many damped iterations from the solution, which autograd unrolls."""
    matrix, offset, g = drawn()
    tanh = get_activation("tanh")
    with torch.no_grad():
        x = equilibrium(DenseOperator(matrix), offset, tanh, forward=FixedPointSettings(tol=1e-14))
    offset.requires_grad_()
    for _ in range(steps):
        x = (1 - part) * x + part * torch.tanh(x @ matrix.t() + offset)
    return torch.autograd.grad(x, offset, g)[0]


@pytest.mark.parametrize("steps", [1, 4])
def test_they_are_gradients_of_unrolled_iterations(steps: int) -> None:
    tight = AdjointSettings("neumann", steps=steps)
    torch.testing.assert_close(gradient(tight), unrolled(steps, 1.0), atol=1e-11, rtol=0)
    damped = AdjointSettings("phantom", steps=steps, damping=0.3)
    torch.testing.assert_close(gradient(damped), unrolled(steps, 0.3), atol=1e-11, rtol=0)
    free = AdjointSettings("jacobian_free", steps=steps)
    torch.testing.assert_close(gradient(free), unrolled(1, 1.0), atol=1e-11, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_error_is_told_on_request_and_survives_a_checkpoint(method: str) -> None:
    exact = gradient(AdjointSettings(tol=1e-14))
    counts = SolveStatistics()
    settings = AdjointSettings(method, tol=1e-14, report_error=True)  # type: ignore[arg-type]
    found = gradient(settings, counts)
    error = float(((found - exact).abs().amax(1) / exact.abs().amax(1)).max())
    assert error > 1e-3
    assert counts.summary()["gradient_error_max"] == pytest.approx(error, rel=1e-9)
    again = SolveStatistics()
    again.load_state_dict(counts.state_dict())
    again.merge(SolveStatistics().state_dict())
    assert again.summary() == counts.summary()
    again.reset()
    assert again.summary() == {}
    quiet = SolveStatistics()
    gradient(AdjointSettings(method), quiet)  # type: ignore[arg-type]
    assert "gradient_error_max" not in quiet.summary()


@pytest.mark.parametrize("method", METHODS)
def test_a_recurrence_and_a_function_take_the_same_steps(method: str) -> None:
    torch.manual_seed(0)
    backward = {"method": method, "steps": 3, "report_error": True}
    tight = {"tol": 1e-13}
    network = ImplicitRNN(2, 1, 5, 3, activation="tanh", forward=tight, backward=backward).double()
    model = network.implicit_models()[0]
    u = torch.randn(2, 1, 2).double()
    # Of one step a recurrence is the model itself.
    u_and_h = torch.cat((u[:, 0], torch.zeros(2, 3).double()), dim=1)
    by_network = torch.autograd.grad(network(u).sum(), model.B)[0]
    by_model = torch.autograd.grad(network.readout(model(u_and_h)).sum(), model.B)[0]
    torch.testing.assert_close(by_network, by_model, atol=1e-11, rtol=0)
    assert network.solve_statistics.summary()["gradient_error_max"] > 0

    matrix, offset, g = drawn()
    offset.requires_grad_()
    counts = SolveStatistics()
    settings = AdjointSettings(method, steps=3, report_error=True)  # type: ignore[arg-type]
    x = fixed_point(
        lambda x: torch.tanh(x @ matrix.t() + offset),
        torch.zeros(SAMPLES, SIZE).double(),
        forward=FixedPointSettings(tol=1e-14),
        backward=settings,
        statistics=counts,
    )
    found = torch.autograd.grad(x, offset, g)[0]
    torch.testing.assert_close(found, gradient(settings), atol=1e-10, rtol=0)
    assert counts.summary()["gradient_error_max"] > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_no_second_derivative_is_made_up(method: str) -> None:
    torch.manual_seed(0)
    model = ImplicitModel(3, 1, 5, backward={"method": method}).double()
    u = torch.randn(2, 3).double().requires_grad_()
    first = torch.autograd.grad(model(u).sum(), u, create_graph=True)[0]
    with pytest.raises(ArgumentError, match=f"backward.method={method} gives an approximate"):
        first.sum().backward()


@pytest.mark.parametrize(("option", "value"), [("steps", 0), ("damping", 0.0), ("damping", 1.5)])
def test_settings_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=f"{option}={value:g}"):
        AdjointSettings("phantom", **{option: value})  # type: ignore[arg-type]
