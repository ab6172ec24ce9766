"""A traced network predicts the same, to rounding; what has no exact form is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.resnet import ResNet20
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.network import from_network


def _trained_looks(network: nn.Module) -> nn.Module:
    """Running statistics and weights of normalisation that are not those it begins with."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.double().eval()


def _converted(network: nn.Module, shape: tuple[int, ...]) -> SparseImplicitModel:
    """The implicit form, held against the network in float64."""
    model = from_network(network, shape)
    inputs = torch.randn(6, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = network(inputs).flatten(1)
        # Sums of some hundred terms in another order: a few hundred units of 2e-16.
        tolerance = 1e-12 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(model(inputs), expected, rtol=0, atol=tolerance)
    model.weights().check_triangular()
    return model


class LeNet(nn.Module):
    """As LeCun's, with maximum pooling and batch normalisation, and modules inside modules."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.BatchNorm2d(4), nn.ReLU()),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, groups=2, dilation=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Tanh(),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(6 * 2 * 2, 5))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class Functional(nn.Module):
    """Written with functions, shapes and in-place sums, as people do."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect")
        self.series = nn.Conv1d(4, 2, 3, stride=2)
        self.slopes = nn.PReLU(4)
        self.register_buffer("gain", torch.rand(4, 1, 1) + 0.5)
        self.last = nn.Parameter(torch.randn(4 * 9 + 2 * 17 + 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        if x.dim() != 4:
            raise ValueError(x.shape)
        h = functional.relu(self.wide(x), inplace=True)
        h = self.slopes(h * self.gain - 0.1)
        pooled = functional.avg_pool2d(h, 3, stride=2, padding=1, count_include_pad=False)
        pooled += functional.adaptive_avg_pool2d(h, 3) / 2
        pooled = torch.maximum(pooled, 1 - functional.adaptive_max_pool2d(h, 3))
        along = self.series(h.permute(0, 1, 3, 2).reshape(x.size(0), 4, -1))
        sizes = torch.clamp(h.sum(dim=(2, 3))[:, 1:], -1.5, 0.5)
        sizes = functional.dropout(sizes, training=self.training)
        joined = torch.cat([pooled.view(x.size(0), -1), along.flatten(1), sizes], dim=1)
        return functional.leaky_relu(joined, 0.3) @ self.last + joined.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: MLP((3, 5), 4, hidden_dims=(7, 6), activation="softsign"), (3, 5)),
        (lambda: CNN((2, 9, 8), 3), (2, 9, 8)),
        (LeNet, (1, 16, 16)),
        (lambda: ResNet20((2, 8, 8), 4), (2, 8, 8)),
        (Functional, (3, 6, 6)),
    ],
)
def test_predictions_are_those_of_the_network(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    _converted(_trained_looks(make()), shape)


def test_states_are_the_activations_and_nothing_else() -> None:
    """Sums past a block, normalisation and averages cost no states: n is known beforehand."""
    model = from_network(ResNet20((3, 8, 8), 10).eval(), (3, 8, 8))
    states = 7 * 16 * 8**2 + 6 * 32 * 4**2 + 6 * 64 * 2**2  # 188,416 of 32 × 32 pixels
    assert (model.hidden_dim, len(model.blocks)) == (states, 19)
    assert model.nonzeros["D"] == 0


@st.composite
def _networks(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, ...]]:
    channels, height = draw(st.integers(1, 3)), draw(st.integers(5, 9))
    width = draw(st.integers(5, 9))
    layers: list[nn.Module] = []
    depth = channels
    for _ in range(draw(st.integers(1, 2))):
        groups = draw(st.sampled_from([each for each in (1, depth) if depth % each == 0]))
        wider = groups * draw(st.integers(1, 3))
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        layers.append(
            nn.Conv2d(
                depth,
                wider,
                kernel,
                stride=draw(st.integers(1, 2)),
                padding=draw(st.integers(0, 2)),
                dilation=draw(st.integers(1, 2)),
                groups=groups,
                bias=draw(st.booleans()),
            )
        )
        depth = wider
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(depth))
        layers.append(draw(st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ReLU6]))())
        pool = draw(st.sampled_from(["max", "average", "none"]))
        options = {"stride": draw(st.integers(1, 2)), "ceil_mode": draw(st.booleans())}
        if pool == "max":
            layers.append(nn.MaxPool2d(2, padding=draw(st.integers(0, 1)), **options))
        elif pool == "average":
            inside = draw(st.booleans())
            layers.append(nn.AvgPool2d(2, padding=1, count_include_pad=inside, **options))
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)), (channels, height, width)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(_networks())
def test_random_convolution_networks_are_exact(
    drawn: tuple[nn.Sequential, tuple[int, ...]],
) -> None:
    network, shape = drawn
    torch.manual_seed(1)
    with torch.no_grad():
        try:
            network.eval()(torch.zeros(1, *shape))
        except RuntimeError:  # a kernel larger than what is left of the image
            return
    _converted(_trained_looks(network), shape)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.reshape(-1, 2, 4)
        return self.attend(steps, steps, steps)[0]


class _Choice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if x.sum() > 0 else -x


class _Of(nn.Module):
    """relu(x) under a function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(torch.relu(x))


class _Counts(nn.Module):
    """Another output at every call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.relu(x) * self.calls


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Linear(8, 8), _Attention()), r"'1.attend' \(MultiheadAttention\)"),
        (nn.Sequential(nn.Linear(8, 8), nn.GELU()), r"'1' \(GELU\): gelu .* Lipschitz .* 1.129"),
        (nn.Sequential(nn.ReLU(), _Choice()), r"'1' \(_Choice\) .* control flow depends"),
        (nn.Sequential(nn.ReLU(), nn.LayerNorm(8)), r"'1' \(LayerNorm\): layer_norm"),
        (nn.Sequential(nn.ReLU(), nn.Softmax(1)), r"'1' \(Softmax\): softmax"),
        (nn.Sequential(nn.ReLU(), nn.Softplus(beta=2)), "softplus .* beta=2"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(8, track_running_stats=False)), "each batch"),
        (_Of(lambda h: h * h), "mul .* two values that both depend on the input"),
        (_Of(lambda h: functional.dropout(h, 0.5)), "dropout .* is random"),
        (_Of(lambda h: h.flip(0)), "flip .* mixes the samples"),
        (_Of(lambda h: h.reshape(4, -1)), "reshape"),
        (_Of(lambda h: h - h.mean()), "mean .* axis of the samples"),
        (_Of(lambda h: h.max(dim=1).indices), "places of its maxima"),
        (_Of(lambda h: functional.max_pool1d(h, 2, return_indices=True)[1]), "max_pool1d"),
        (_Of(lambda h: (h, h)), "returns a tuple"),
        (_Of(lambda h: torch.fft.rfft(h)), "fft"),
        (_Of(lambda h: h > 0), "gt"),
        (_Of(lambda h: h.half().float()), "float16"),
        (nn.LSTM(8, 3, batch_first=True), "lstm|LSTM"),
        (_Counts(), "does not compute what its trace says"),
        (nn.Linear(8, 3), "no activation"),
        (nn.Sequential(nn.Linear(8, 2).half(), nn.ReLU()), "float16"),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(network: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        from_network(network, (8,))


def test_weights_that_are_not_finite_are_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    nn.init.constant_(network[0].bias, torch.inf)
    with pytest.raises(UnsupportedModelError, match="finite"):
        from_network(network, (3,))


def test_the_network_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Dropout())
    network[3].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    from_network(network, (3,))
    assert [each.training for each in network.modules()] == [True, True, True, True, False]
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_what_a_hook_changes_is_part_of_the_model() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()
    network[0].register_forward_hook(lambda module, inputs, output: output + 1)
    _converted(network, (3,))
