"""Kernels of the networks that people have: folded, pooled, added up, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.activation_modules import activation_module, activation_module_names
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.traced.network import kernels_of
from idl_cli.models.resnet import ResNet20


def images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_statistics(network: nn.Module, *shape: int) -> nn.Module:
    """Normalisations that do something: running statistics and factors that are no ones."""
    network = network.double().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(16, *shape, dtype=torch.float64))
    return network.eval()


def pooled() -> nn.Module:
    """Maxima before and behind the activation, averages, a global average before the outputs."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4),
        nn.MaxPool2d(3, stride=2, padding=1), nn.Tanh(), nn.Dropout(),
        nn.Conv2d(4, 5, 2), nn.Tanh(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(5, 6, 1), nn.BatchNorm2d(6), nn.Tanh(),
        nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False),
        nn.Conv2d(6, 4, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(),
        nn.Linear(6, 3),
    )  # fmt: skip


class Branches(nn.Module):
    """A shortcut as it is, one with weights, one behind a pooling, and functions for modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.third = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.past = nn.Conv2d(4, 6, 1, stride=2)
        self.past_norm = nn.BatchNorm2d(6)
        self.fourth = nn.Conv2d(6, 6, 1, stride=2)
        self.outputs = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        first = functional.leaky_relu(self.first(inputs))
        second = functional.leaky_relu(self.norm(self.second(first)) + first)
        third = self.third(second)
        third += self.past_norm(self.past(second))
        third = functional.leaky_relu(third)
        fourth = functional.leaky_relu(functional.max_pool2d(third, 2) + self.fourth(third))
        outputs: Tensor = self.outputs(fourth.mean((2, 3)))
        return outputs


@pytest.mark.parametrize(
    ("make", "shape"), [(pooled, (2, 9, 8)), (Branches, (2, 8, 8)), (None, (3, 8, 8))]
)
def test_a_network_comes_out_as_it_is(
    make: Callable[[], nn.Module] | None, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = with_statistics(ResNet20(shape, 4) if make is None else make(), *shape)
    inputs = images(5, *shape)
    model, names = kernels_of(network, inputs)
    expected = network(inputs)
    torch.testing.assert_close(model(inputs), expected, rtol=1e-10, atol=1e-10)
    # The equation: states from what enters them, outputs from states.
    states = model.equilibrium(inputs)
    torch.testing.assert_close(model.read_out(states), expected, rtol=1e-10, atol=1e-10)
    assert states.shape == (5, model.hidden_dim)
    assert len(names) == len(set(names)) == len(model.sums) - 1
    # No weights but the network's own, with an offset a channel in place of a normalisation.
    assert sum(w.weight.numel() for w in model.weights) == sum(
        m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    )
    again = FeedforwardConv(**model.constructor_arguments()).double()  # type: ignore[arg-type]
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(inputs), model(inputs))


def test_sums_say_what_they_are_made_of() -> None:
    torch.manual_seed(0)
    network = with_statistics(Branches(), 2, 8, 8)
    model, _ = kernels_of(network, images(3, 2, 8, 8))
    assert model.graph.groups == [(0,), (1,), (2, 3), (4,), (5,)]
    inputs = images(3, 2, 8, 8)
    for number, (entering, total) in enumerate(model.evaluated(inputs)):
        made = sum(
            layer(maps.flatten(1) if isinstance(layer, nn.Linear) else maps)
            for layer, maps in zip(model.sums[number], entering.reads, strict=True)
        )
        added = 0 if entering.added is None else entering.added
        torch.testing.assert_close(made + added, total, rtol=0, atol=1e-12)
        torch.testing.assert_close(model.total(inputs, number), total, rtol=0, atol=0)
        assert (entering.added is None) == (number not in (1, 3))


def test_the_norm_and_the_states_are_those_of_the_unrolled_matrices() -> None:
    """Without maxima, whose states the unrolled form has besides."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    inputs = images(4, 1, 6, 6)
    model, _ = kernels_of(with_statistics(network, 1, 6, 6), inputs)
    dense = model.dense_form()
    states = model.equilibrium(inputs)
    torch.testing.assert_close(dense.equilibrium(inputs.flatten(1)), states, rtol=0, atol=1e-12)
    assert model.inf_norm_A() == pytest.approx(dense.inf_norm_A(), rel=1e-13)


def test_states_answer_to_what_enters_them_past_shortcuts() -> None:
    torch.manual_seed(0)
    model, _ = kernels_of(with_statistics(Branches(), 2, 8, 8), images(2, 2, 8, 8))
    entering = model.injected(images(1, 2, 8, 8)).detach().requires_grad_()
    assert torch.autograd.gradcheck(model.solve, (entering,))


@pytest.mark.parametrize("activation", activation_module_names())
def test_every_activation_is_known_behind_a_layer(activation: str) -> None:
    torch.manual_seed(0)
    modules = [nn.Conv2d(1, 2, 3), activation_module(activation), nn.Flatten(), nn.Linear(8, 2)]
    network, inputs = nn.Sequential(*modules).double(), images(3, 1, 4, 4)
    model, names = kernels_of(network, inputs)
    assert model.activation.name == activation
    assert list(names) == ["1"]
    torch.testing.assert_close(model(inputs), network(inputs), rtol=1e-12, atol=1e-12)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 3, padding=1)
        self.outputs = nn.Linear(32, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.layer(functional.relu(self.layer(inputs))).relu()
        outputs: Tensor = self.outputs(maps.flatten(1))
        return outputs


def _network(*modules: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(*modules, nn.ReLU(), nn.Flatten(), nn.Linear(width, 3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Twice, "layer 'layer' is used twice"),
        (lambda: _network(nn.Conv2d(2, 4, 3, groups=2), width=16), "'0' has 2 groups"),
        (
            lambda: _network(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), width=16),
            "'1' follows another layer without an activation",
        ),
        (
            lambda: _network(
                nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Tanh(), width=16
            ),
            "mixes activations: relu before",
        ),
        (lambda: _network(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), width=16), "stands before a"),
        (lambda: _network(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), width=4), "averages between"),
        (
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.GELU(), nn.Flatten(), nn.Linear(4, 3)
            ),
            "gelu falls",
        ),
        (lambda: _network(nn.Conv2d(2, 4, 3), nn.Softmax(1), width=16), "softmax in module '1'"),
        (
            lambda: _network(nn.Conv2d(2, 4, 3, padding_mode="circular", padding=1), width=64),
            "module '0'",
        ),
    ],
)
def test_what_has_no_place_is_refused_by_name(make: Callable[[], nn.Module], said: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match=said):
        kernels_of(make().double().eval(), images(2, 2, 4, 4))
