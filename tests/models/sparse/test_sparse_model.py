"""The sparse model: gradients, storage, and the ways to and from other forms."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.errors import ArgumentError, ShapeError, UnsupportedModelError
from idl_cli.models.conversion import from_feedforward
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rescaling import rescale
from idl_cli.models.sparse.conversion import in_levels, to_sequential, weights_of
from idl_cli.models.sparse.matrix import SparseMatrix
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.network import from_network


class _Skips(nn.Module):
    """A network whose values pass beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(9, 3)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.one(u))
        h = torch.relu(self.two(h)) + h
        return self.three(torch.cat([torch.relu(h - 0.2), u], dim=1))


@pytest.fixture
def skips() -> tuple[nn.Module, SparseImplicitModel]:
    torch.manual_seed(0)
    network = _Skips().double()
    return network, from_network(network, (5,))


def test_gradients_are_those_of_finite_differences(
    skips: tuple[nn.Module, SparseImplicitModel],
) -> None:
    model = skips[1]
    inputs = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]

    def predicted(u: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, given, strict=True))
        found: torch.Tensor = torch.func.functional_call(model, parameters, (u,))
        return found

    assert torch.autograd.gradcheck(predicted, (inputs, *values))


def test_states_and_dense_form_agree(skips: tuple[nn.Module, SparseImplicitModel]) -> None:
    network, model = skips
    inputs = torch.randn(6, 5, dtype=torch.float64)
    dense = model.to_dense()
    torch.testing.assert_close(
        model.equilibrium(inputs), dense.equilibrium(inputs), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(dense(inputs), network(inputs), rtol=0, atol=1e-13)
    assert model.inf_norm_A() == pytest.approx(dense.inf_norm_A(), rel=1e-15)


def test_a_state_dict_makes_the_same_model(skips: tuple[nn.Module, SparseImplicitModel]) -> None:
    model = skips[1]
    again = SparseImplicitModel(**model.constructor_arguments()).double()
    again.load_state_dict(model.state_dict())
    inputs = torch.randn(2, 5, dtype=torch.float64)
    assert torch.equal(again(inputs), model(inputs))


def test_inputs_of_another_size_or_type_are_refused(
    skips: tuple[nn.Module, SparseImplicitModel],
) -> None:
    for wrong in (torch.zeros(3, 4).double(), torch.zeros(3, 5), torch.zeros(5).double()):
        with pytest.raises(ShapeError):
            skips[1](wrong)


def test_eight_bits_are_within_half_a_step() -> None:
    dense = scipy.sparse.random_array((20, 30), density=0.3, rng=0).toarray()
    dense[3] = 0
    matrix = scipy.sparse.csr_matrix(dense)
    coded = SparseMatrix.of(matrix, torch.float64, quantized=True)
    found = coded.to_scipy()
    steps = abs(matrix).max(axis=1).toarray().ravel() / 127
    assert (abs(found - matrix).max(axis=1).toarray().ravel() <= steps / 2 * (1 + 1e-12)).all()
    again = SparseMatrix.of(found, torch.float64, quantized=True).to_scipy()
    assert abs(again - found).max() <= 1e-15 * abs(found).max()


def test_back_to_layers(skips: tuple[nn.Module, SparseImplicitModel]) -> None:
    """Plain stacks come back as they were; values that pass beside are carried on."""
    network, model = skips
    inputs = torch.randn(6, 5, dtype=torch.float64)
    layers = to_sequential(model)
    torch.testing.assert_close(layers(inputs), network(inputs), rtol=0, atol=1e-13)
    plain = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    for made in (from_feedforward(plain), from_network(plain, (5,))):
        again = to_sequential(made)
        linear = [layer for layer in again if isinstance(layer, nn.Linear)]
        for layer, original in zip(linear, plain[::2], strict=True):
            assert torch.equal(layer.weight, original.weight)
            assert torch.equal(layer.bias, original.bias)


def test_what_no_stack_of_layers_computes_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="feeds back on itself"):
        to_sequential(ImplicitModel(4, 2, 3))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh())

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, u: torch.Tensor) -> torch.Tensor:
            return self.network(u) + u[:, :2]

    with pytest.raises(UnsupportedModelError, match="skip a block with the activation tanh"):
        to_sequential(from_network(Beside(), (3,)))


@pytest.mark.filterwarnings("ignore:well_posedness=none")
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_any_order_of_the_states_comes_into_levels(seed: int, states: int) -> None:
    torch.manual_seed(seed)
    order = torch.randperm(states)
    A = (torch.randn(states, states) * (torch.rand(states, states) < 0.4)).triu(1)
    model = ImplicitModel.from_weights(
        A[order][:, order].double(),
        torch.randn(states, 3).double(),
        torch.randn(2, states).double(),
        well_posedness="none",
    )
    sparse = SparseImplicitModel.from_weights(in_levels(weights_of(model)), torch.float64)
    u = torch.randn(4, 3, dtype=torch.float64)
    x = torch.zeros(4, states, dtype=torch.float64)
    for _ in range(states):
        x = torch.relu(x @ model.A.T + u @ model.B.T)
    torch.testing.assert_close(sparse(u), x @ model.C.T, rtol=1e-12, atol=1e-12)


def test_a_block_that_depends_on_itself_is_refused() -> None:
    model = ImplicitModel(3, 2, 4)
    with pytest.raises(ArgumentError, match="strictly block upper triangular"):
        SparseImplicitModel.from_weights(weights_of(model), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescaling_keeps_predictions_and_bounds_the_norm(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = _Skips().to(dtype)
    model = from_network(network, (5,))
    for parameter in (model.A.stored, model.B.stored):
        parameter.data *= 7
    found = rescale(model, 0.4)
    # Products of weights and factors, each rounded once.
    tolerance = 1e3 * torch.finfo(dtype).eps
    inputs = torch.randn(6, 5, dtype=dtype)
    torch.testing.assert_close(found(inputs), model(inputs), rtol=tolerance, atol=tolerance)
    assert 0.2 < found.inf_norm_A() <= 0.4 < model.inf_norm_A()
