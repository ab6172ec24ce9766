"""The implicit form of a feed-forward network is exact, and what has none is refused by name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.conversion import from_feedforward


def test_blocks_stand_last_layer_first() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 5)
    ).double()
    model = from_feedforward(network)
    first, second, last = network[0], network[2], network[4]
    assert torch.equal(model.A[:2, 2:], second.weight)
    assert torch.equal(model.A.tril(), torch.zeros(5, 5).double())
    assert torch.equal(model.B[2:], first.weight)
    assert not model.B[:2].any()
    assert torch.equal(model.C[:, :2], last.weight)
    assert torch.equal(model.state_bias, torch.cat([second.bias, first.bias]))
    assert torch.equal(model.output_bias, last.bias)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)),
        nn.Sequential(
            nn.Flatten(),
            nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Dropout(0.3)),
            nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 5), nn.LeakyReLU(), nn.Identity()),
            nn.Linear(5, 2),
        ),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()),
    ],
)
def test_predictions_are_those_of_the_network(network: nn.Sequential) -> None:
    network.double().eval()
    inputs = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(
        from_feedforward(network)(inputs), network(inputs), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Linear(4, 2)), "no activation modules"),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), "'0' follows no linear layer"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.LayerNorm(2)), r"'2' \(LayerNorm\)"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh()), "'3' is tanh"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Dropout(0.5)), "Dropout in evaluation"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(3, 2)), "takes 3 entries"),
        (nn.Sequential(nn.Linear(4, 2), nn.LeakyReLU(0.3), nn.Linear(2, 2)), "does not compute"),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(network: nn.Sequential, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        from_feedforward(network)


class _Doubled(nn.ReLU):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs > 50, 2 * inputs, super().forward(inputs))


class _Renamed(nn.ReLU):
    """Computes what ReLU computes."""


class _Offset(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) + (inputs.abs().amax() > 50)


def _patched() -> nn.ReLU:
    module = nn.ReLU()
    module.forward = lambda inputs: inputs.clamp(min=0, max=50)  # type: ignore[method-assign]
    return module


UNLIKE = [
    nn.Hardtanh(-2.0, 2.0),
    nn.Hardtanh(-50.0, 50.0),
    nn.GELU(approximate="tanh"),
    nn.LeakyReLU(0.010001),
    nn.ELU(1.0001),
    nn.Softplus(beta=2.0),
    nn.Softplus(threshold=50.0),
    nn.Softshrink(0.4999),
    nn.CELU(),
    nn.Threshold(-50.0, -50.0),
    nn.PReLU(),
    _Doubled(),
    _patched(),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("activation", UNLIKE, ids=str)
def test_an_activation_with_other_parameters_is_refused_by_name(
    activation: nn.Module, dtype: torch.dtype
) -> None:
    network = nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 2)).to(dtype).eval()
    with pytest.raises(UnsupportedModelError, match="activation '1' does not compute"):
        from_feedforward(network)


def test_a_layer_with_a_forward_of_its_own_is_refused() -> None:
    odd = nn.Sequential(_Offset(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    with pytest.raises(UnsupportedModelError, match=r"'0' \(_Offset\)"):
        from_feedforward(odd)
    flat = nn.Sequential(nn.Flatten(0), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(UnsupportedModelError, match=r"'0' \(Flatten\)"):
        from_feedforward(flat)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["hardtanh", "leaky_relu", "elu", "softplus", "gelu", "relu6", "renamed"]),
    parameter=st.one_of(st.sampled_from([0.01, 1.0, 6.0, 20.0]), st.floats(0.001, 30.0)),
    seed=st.integers(0, 100),
)
def test_a_conversion_is_exact_or_refused(kind: str, parameter: float, seed: int) -> None:
    activation: nn.Module = {
        "hardtanh": lambda: nn.Hardtanh(-parameter, parameter),
        "leaky_relu": lambda: nn.LeakyReLU(parameter),
        "elu": lambda: nn.ELU(parameter),
        "softplus": lambda: nn.Softplus(1.0, parameter),
        "gelu": lambda: nn.GELU("tanh" if parameter > 1 else "none"),
        "relu6": lambda: nn.Hardtanh(0.0, parameter),
        "renamed": _Renamed,
    }[kind]()
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 6), activation, nn.Linear(6, 3)).double().eval()
    exact = {"leaky_relu": 0.01, "softplus": 20.0, "relu6": 6.0}.get(kind, 1.0)
    kept = kind == "renamed" or (kind == "gelu" and parameter <= 1) or parameter == exact
    try:
        model = from_feedforward(network)
    except UnsupportedModelError:
        assert not kept
        return
    assert kept
    inputs = 100 * torch.randn(200, 4, dtype=torch.float64)
    scale = float(network(inputs).detach().abs().max())
    assert math.isfinite(scale)
    torch.testing.assert_close(model(inputs), network(inputs), rtol=0, atol=1e-13 * scale)
