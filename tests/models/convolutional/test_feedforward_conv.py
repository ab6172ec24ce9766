"""A convolution network as an implicit model: its equation, its unrolled form, its refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv

CONVOLUTIONS = [
    {"outputs": 3, "bias": True, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0]},
    {"outputs": 4, "bias": False, "kernel_size": [2, 3], "dilation": [2, 1], "padding": [0, 2]},
]
LAYERS = [*CONVOLUTIONS, {"outputs": 5, "bias": True}, {"outputs": 3, "bias": True}]


def model(*, activation: str = "relu") -> FeedforwardConv:
    """Two channels of 7 × 6 pixels, rectangular kernels, float64."""
    torch.manual_seed(0)
    structure = {"layers": LAYERS, "activation": activation}
    return FeedforwardConv((2, 7, 6), 3, convolution_structure=structure).double()


def images(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 7, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_it_is_the_network_of_its_layers(activation: str) -> None:
    network, inputs = model(activation=activation), images()
    expected = network.to_sequential()(inputs)
    torch.testing.assert_close(network(inputs), expected, rtol=1e-14, atol=1e-14)
    states = network.equilibrium(inputs)
    torch.testing.assert_close(network.read_out(states), expected, rtol=1e-13, atol=1e-13)


def test_its_unrolled_form_has_the_same_states_matrices_and_norm() -> None:
    network, inputs = model(), images()
    dense = network.dense_form()
    weights = dense.effective_weights()
    states = network.equilibrium(inputs)
    assert states.shape == (5, network.hidden_dim) == (5, dense.hidden_dim)
    assert not weights.A.tril().any()
    assert not weights.D.any()
    torch.testing.assert_close(dense.equilibrium(inputs.flatten(1)), states, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense(inputs), network(inputs), rtol=0, atol=1e-12)
    assert network.inf_norm_A() == pytest.approx(dense.inf_norm_A(), rel=1e-13)
    # The equation itself, with the unrolled A and what the model says enters the states.
    entering = network.injected(inputs)
    torch.testing.assert_close(
        states, torch.relu(states @ weights.A.T + entering), rtol=0, atol=1e-12
    )


def test_states_answer_to_what_enters_them() -> None:
    network = model(activation="tanh")
    entering = network.injected(images(2)).detach().requires_grad_()
    assert torch.autograd.gradcheck(network.solve, (entering,))


def test_a_model_of_the_same_structure_takes_its_weights() -> None:
    network = model()
    again = FeedforwardConv(**network.constructor_arguments()).double()  # type: ignore[arg-type]
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images()), network(images().flatten(1)))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (LAYERS[-1:], "at least one hidden layer"),
        (CONVOLUTIONS, "a fully connected one for the outputs"),
        ([LAYERS[2], CONVOLUTIONS[0], LAYERS[3]], "none may follow a fully connected layer"),
        ([LAYERS[0], {"outputs": 4, "bias": True}], "has 4 outputs"),
        ([{"outputs": 1, "bias": True, "kernel_size": [9, 1]}, LAYERS[3]], "does not fit"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: list[dict[str, object]], said: str) -> None:
    structure = {"layers": layers, "activation": "relu"}
    with pytest.raises(ArgumentError, match=said):
        FeedforwardConv((2, 7, 6), 3, convolution_structure=structure)


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ShapeError, match="84 values a sample"):
        model()(images()[:, :1])
