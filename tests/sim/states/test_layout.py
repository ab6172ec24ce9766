"""Recorded states equal a forward pass by hand; what cannot be expressed is refused by name."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from idl_cli.errors import ArgumentError, NonFiniteError, ShapeError, UnsupportedModelError
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.layout import batches_of_inputs
from idl_cli.sim.states.recorders import state_recorder


def _inputs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class _Branching(nn.Module):
    """A residual network with one activation module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)
        self.last, self.relu = nn.Linear(6, 3), nn.ReLU(inplace=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.relu(self.first(inputs))
        return self.last(hidden + self.relu(self.second(hidden)))


class _Functional(nn.Module):
    """The first activation is a module, the second a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu = nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(functional.relu(self.second(self.relu(self.first(inputs)))))


@pytest.mark.parametrize("inplace", [False, True])
def test_states_equal_a_forward_pass_by_hand(inplace: bool) -> None:
    torch.manual_seed(0)
    first, second, last = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)
    block = nn.Sequential(nn.Sequential(second, nn.ReLU(inplace=inplace)), nn.Dropout(0.5))
    network = nn.Sequential(first, nn.ReLU(inplace=inplace), block, last)
    inputs = _inputs(7, 5)

    batch = state_recorder(network, inputs).record(inputs)

    z1 = first(inputs)
    z2 = second(z1.relu())
    assert torch.equal(batch.pre_activations, torch.cat([z2, z1], dim=1))
    assert torch.equal(batch.states, torch.cat([z2, z1], dim=1).relu())
    assert torch.equal(batch.outputs, last(z2.relu()))
    assert torch.equal(batch.inputs, torch.cat([inputs, torch.ones(7, 1)], dim=1))
    assert (batch.pre_activations < 0).any()  # an in-place ReLU must not have reached Z


def test_no_constant_input_without_biases() -> None:
    network = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    recorder = state_recorder(network, _inputs(3, 5))
    assert not recorder.layout.has_bias
    assert recorder.record(_inputs(3, 5)).inputs.shape == (3, 5)


def test_a_module_called_twice_gives_two_blocks() -> None:
    torch.manual_seed(0)
    network = _Branching()
    inputs = _inputs(4, 5)
    recorder = state_recorder(network, inputs)
    batch = recorder.record(inputs)
    z1 = network.first(inputs)
    z2 = network.second(z1.relu())
    assert recorder.layout.names == ("relu#2", "relu")
    assert torch.equal(batch.pre_activations, torch.cat([z2, z1], dim=1))
    torch.testing.assert_close(batch.outputs, network.last(z1.relu() + z2.relu()))


def test_convolution_states_are_flattened() -> None:
    torch.manual_seed(0)
    network = CNN((1, 9, 7), 3, channels=(2, 4), hidden_dim=5)
    images = _inputs(6, 1, 9, 7)
    recorder = state_recorder(network, images)
    batch = recorder.record(images)
    convolution = network.layers[2]
    assert recorder.layout.sizes == (5, 4 * 3 * 2, 2 * 5 * 4)
    assert torch.equal(batch.pre_activations[:, -40:], convolution(images).flatten(1))


def test_the_teacher_is_left_as_it_was_to_the_bit() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)
    )
    network[1].eval()  # mixed modes must survive
    network[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    inputs = _inputs(6, 5)

    state_recorder(network, inputs).record(inputs)

    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == [False, *[True] * 5]
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_the_teacher_is_left_as_it_was_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r"does not take inputs of shape \(6,\)"):
        state_recorder(network, _inputs(3, 6))
    with pytest.raises(NonFiniteError):
        state_recorder(network, _inputs(3, 5) * torch.nan)
    assert network.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Linear(5, 2)), "no activation modules"),
        (_Functional(), r"the forward of the network \(_Functional\)"),
        (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2)), "'2'"),
        (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1)), "'3'"),
        (
            nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
            "'1' is relu, '3' is tanh",
        ),
        (
            nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2)),
            "activation '1' of the teacher does not compute leaky_relu",
        ),
        (
            nn.Sequential(
                nn.Linear(5, 4),
                nn.BatchNorm1d(4, track_running_stats=False),
                nn.ReLU(),
                nn.Linear(4, 2),
            ),
            "'1'",
        ),
        (
            nn.Sequential(
                nn.Unflatten(1, (1, 5)),
                nn.Conv1d(1, 2, 2),
                nn.ReLU(),
                nn.MaxPool1d(2),
                nn.Flatten(),
                nn.Linear(4, 2),
            ),
            r"'3' \(MaxPool1d\)",
        ),
        (
            nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2), nn.Unflatten(1, (1, 2))),
            "must return one tensor",
        ),
        (
            nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), nn.ReLU(), nn.Linear(1, 2)),
            "one row a sample",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(network: nn.Module, message: str) -> None:
    torch.manual_seed(0)
    inputs = _inputs(6, 5)
    with pytest.raises(UnsupportedModelError, match=message):
        state_recorder(network, inputs).record(inputs)


def test_mixing_the_samples_of_a_batch_is_refused() -> None:
    class Centred(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs - inputs.mean(dim=0)

    network = nn.Sequential(nn.Linear(5, 4), Centred(), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(UnsupportedModelError, match="mixes the samples"):
        state_recorder(network, _inputs(6, 5))


def test_named_states_are_matched_approximately() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    recorder = state_recorder(network, _inputs(6, 5), names=["3"])
    assert recorder.layout.sizes == (3,)
    with pytest.raises(UnsupportedModelError, match=r"'9', which is no module .* 1, 3"):
        state_recorder(network, _inputs(6, 5), names=["9"])


def test_too_many_features_are_refused_with_what_to_name() -> None:
    network = MLP((5,), 2, hidden_dims=(4, 2))
    with pytest.raises(UnsupportedModelError, match=r"12 entries.*GB; name fewer.*\[layers\.4\]"):
        state_recorder(network, _inputs(3, 5), max_features=11)


def test_nan_states_name_the_activation() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    recorder = state_recorder(network, _inputs(3, 5))
    with torch.no_grad():
        network[0].weight[2, 1] = torch.inf
    with pytest.raises(NonFiniteError, match="the input of activation '1'"):
        recorder.record(_inputs(3, 5))


def test_an_implicit_teacher_gives_its_equilibria() -> None:
    torch.manual_seed(0)
    model = ImplicitModel(5, 3, 8, kappa=0.8).double()
    with torch.no_grad():
        model.state_bias.uniform_(-1, 1)
    inputs = _inputs(6, 5).double()
    batch = state_recorder(model, inputs).record(inputs)
    assert torch.equal(batch.states, batch.pre_activations.relu())
    weights = torch.cat([model.B, model.state_bias[:, None]], dim=1)
    fitted = batch.states @ model.A.T + batch.inputs @ weights.T
    # The model's own solver stops at a relative residual of 1e-5.
    torch.testing.assert_close(fitted, batch.pre_activations, rtol=0, atol=1e-4)
    with pytest.raises(ArgumentError, match="cannot be chosen for an implicit model"):
        state_recorder(model, inputs, names=["equilibrium"])


def test_batches_stop_at_the_number_of_samples() -> None:
    loader = [(torch.arange(4.0)[:, None], None), (torch.arange(4.0, 8.0)[:, None], None)]
    drawn = torch.cat(list(batches_of_inputs(loader, 6)))
    assert drawn[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(torch.cat(list(batches_of_inputs(loader, None)))) == 8


class _Squared(nn.Module):
    """Not affine between its activation and its output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.first(inputs)).square() * 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_teacher_is_checked_in_any_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = _inputs(40, 4).to(dtype)
    with pytest.raises(UnsupportedModelError, match="not affine between its activations"):
        state_recorder(_Squared().to(dtype), inputs)
    affine = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).to(dtype)
    recorder = state_recorder(affine, inputs)
    assert recorder.layout.state_dim == 16
    assert recorder.record(inputs).outputs.dtype == dtype
    assert affine[0].weight.dtype == dtype
    hooked = copy.deepcopy(affine)
    hooked[1].register_forward_hook(lambda module, args, output: 1.05 * output)
    with pytest.raises(UnsupportedModelError, match="does not compute relu"):
        state_recorder(hooked, inputs)


def test_modules_that_are_never_called_do_not_count() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    layers = list(network)
    network.unused = nn.Module()
    network.unused.add_module("gelu", nn.GELU())
    network.unused.add_module("clip", nn.Hardtanh(-50.0, 50.0))
    network.forward = lambda inputs: layers[2](layers[1](layers[0](inputs)))
    assert state_recorder(network, _inputs(6, 5)).layout.activation.name == "relu"


@pytest.mark.parametrize(
    "stranger", [nn.Hardtanh(-50.0, 50.0), nn.Threshold(-50.0, -50.0), nn.ELU(0.5)], ids=str
)
def test_an_activation_that_is_none_of_ours_is_refused_where_no_sample_shows_it(
    stranger: nn.Module,
) -> None:
    for layers in (
        [nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), stranger, nn.Linear(4, 2)],
        [nn.Linear(5, 4), stranger, nn.Linear(4, 2)],
    ):
        with pytest.raises(UnsupportedModelError, match="of the teacher does not compute"):
            state_recorder(nn.Sequential(*layers), _inputs(6, 5))


def test_batches_may_be_arrays_and_must_be_inputs() -> None:
    inputs = _inputs(6, 5)
    drawn = torch.cat(list(batches_of_inputs([(inputs.numpy(), [1, 2])], None)))
    assert torch.equal(drawn, inputs)
    for batch in ({"x": inputs}, "text", [], 3.0, [object()], inputs.numpy().astype(object)):
        with pytest.raises(ArgumentError, match=r"the loader gives .*taken are batches of inputs"):
            list(batches_of_inputs([batch], None))


def test_integer_inputs_are_refused_with_what_to_do() -> None:
    network = nn.Sequential(
        nn.Embedding(20, 4), nn.Flatten(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    with pytest.raises(ArgumentError, match=r"inputs of torch\.int64.*behind the embedding"):
        state_recorder(network, torch.randint(0, 20, (50, 5)))
