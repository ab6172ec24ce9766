"""The same equilibria and gradients on every kind of device that is there."""

from functools import partial

import pytest
import torch
from torch import Tensor

from idl_cli import ImplicitRNN, fixed_point
from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import DenseOperator, SparsePattern
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ConvergenceWarning
from tests.equilibrium.operators.matrices import SQUARE, normal
from tests.equilibrium.operators.test_operators import scaled
from tests.equilibrium.test_coarse import offsets, slow_matrix

TIGHT = FixedPointSettings(tol=1e-12), AdjointSettings(tol=1e-12)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
pytestmark = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])


def assert_as_on_the_cpu(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", SQUARE)
def test_equilibria_and_gradients_of_every_operator(name: str, device: str) -> None:
    case, results = SQUARE[name], []
    for place, dense in ((device, False), ("cpu", True)):
        factors = [factor.clone().to(place).requires_grad_() for factor in scaled(case)]
        matrix = case.matrix(*scaled(case))
        if dense:
            operator = DenseOperator(case.matrix(*factors))
        elif "sparse" in name or "zeros" in name:
            pattern = SparsePattern.of(matrix.to(place))
            operator = type(case.make(*case.factors))(factors[0], pattern)
        else:
            operator = case.make(*factors)
        offset = normal(5, len(matrix), seed=4).to(place).requires_grad_()
        x = equilibrium(
            operator, offset, get_activation("relu"), forward=TIGHT[0], backward=TIGHT[1]
        )
        found = torch.autograd.grad(x.square().sum(), [offset, *factors])
        assert x.device.type == place
        results.append((x.detach(), *found))
    assert_as_on_the_cpu(*results)


@pytest.mark.parametrize("kind", ["one", "blocks3", "tridiagonal", "signs"])
def test_slow_spectra(kind: str, device: str) -> None:
    results = []
    for place, method in ((device, "auto"), ("cpu", "picard")):
        counts = SolveStatistics()
        A, offset = slow_matrix(kind, 0.99).to(place), offsets()[0].to(place)
        leaves = [A.requires_grad_(), offset.requires_grad_()]
        x = equilibrium(
            DenseOperator(A),
            offset,
            get_activation("relu"),
            forward=FixedPointSettings(method, 20_000, 1e-12),  # type: ignore[arg-type]
            backward=AdjointSettings(method, 20_000, 1e-12),  # type: ignore[arg-type]
            statistics=counts,
        )
        results.append((x.detach(), *torch.autograd.grad(x.sum(), leaves)))
        assert counts.summary()["unconverged_share"] == 0
    for one, other in zip(*results, strict=True):
        # Both within 1e-12 of what is summed, times 1/(1 - 0.99), and gradients of both.
        torch.testing.assert_close(one.cpu(), other, rtol=1e-7, atol=1e-7)


def test_a_solve_that_fails_is_said(device: str) -> None:
    offset = torch.tensor([[1.0, torch.nan], [1.0, 1.0]], device=device)
    counts = SolveStatistics()
    with pytest.warns(ConvergenceWarning, match="1 of 2 equilibria did not converge"):
        x = equilibrium(
            DenseOperator(torch.full((2, 2), 0.3, device=device)),
            offset,
            get_activation("relu"),
            statistics=counts,
        )
    torch.testing.assert_close(
        x[1].cpu(), torch.full((2,), 2.5), rtol=3e-5, atol=0
    )  # tol/(1 - 0.6)
    assert counts.summary()["unconverged_share"] == 0.5


def cell(weight: Tensor, inputs: Tensor, x: Tensor) -> Tensor:
    return torch.tanh(x @ weight + inputs)


def test_any_map(device: str) -> None:
    torch.manual_seed(0)
    weight, inputs = torch.randn(6, 6).double() / 6, torch.randn(4, 6).double()
    results = []
    for place in (device, "cpu"):
        leaves = [each.clone().to(place).requires_grad_() for each in (weight, inputs)]
        x = fixed_point(partial(cell, *leaves), torch.zeros_like(leaves[1]))
        results.append((x.detach(), *torch.autograd.grad(x.sum(), leaves)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-4)  # of tol=1e-5


def test_a_recurrence(device: str) -> None:
    torch.manual_seed(0)
    model = ImplicitRNN(3, 2, 10, forward={"tol": 1e-12}, backward={"tol": 1e-12}).double()
    inputs, results = torch.randn(6, 5, 3).double(), []
    for place in (device, "cpu"):
        model = model.to(place)
        model.zero_grad()
        outputs = model(inputs.to(place))
        outputs.square().sum().backward()
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        results.append((outputs.detach(), *gradients))
    assert_as_on_the_cpu(*results)
