"""The implicit form of a feed-forward network is exact, and what has none is refused by name."""

import pytest
import torch
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
