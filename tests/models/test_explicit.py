"""Explicit networks: shapes, remaking from their arguments, and mistakes told clearly."""

import pytest
import torch

from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.explicit import CNN, MLP


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (MLP((3, 4), 3, hidden_dims=[5, 4], activation="tanh", bias=False), (3, 4)),
        (CNN((8, 8), 3, channels=[2, 2], hidden_dim=4), (8, 8)),
        (CNN((3, 7, 9), 3, kernel_size=5), (3, 7, 9)),
    ],
)
def test_an_equal_network_is_remade_from_the_arguments(
    network: MLP | CNN, shape: tuple[int, ...]
) -> None:
    inputs = torch.randn(5, *shape)
    twin = type(network)(**network.constructor_arguments())
    twin.load_state_dict(network.state_dict())
    assert network(inputs).shape == (5, 3)
    assert torch.equal(twin(inputs), network(inputs))
    assert torch.equal(network(inputs.flatten(1)), network(inputs))


def test_biases_are_optional() -> None:
    names = [name for name, _ in MLP((4,), 2, hidden_dims=(3,), bias=False).named_parameters()]
    assert names == ["layers.1.weight", "layers.3.weight"]


def test_mistakes_are_told() -> None:
    with pytest.raises(ArgumentError, match="hidden_dims="):
        MLP((4,), 2, hidden_dims=(3, 0))
    with pytest.raises(ArgumentError, match="at least one hidden layer"):
        MLP((4,), 2, hidden_dims=())
    with pytest.raises(ArgumentError, match="activation='swoosh'"):
        MLP((4,), 2, activation="swoosh")
    with pytest.raises(ArgumentError, match="no image"):
        CNN((4,), 2)
    with pytest.raises(ArgumentError, match="odd number"):
        CNN((4, 4), 2, kernel_size=2)
    with pytest.raises(ShapeError, match="have 3 entries each"):
        MLP((4,), 2)(torch.randn(2, 3))
    with pytest.raises(ShapeError, match="no images of shape"):
        CNN((4, 4), 2)(torch.randn(2, 5, 5))
