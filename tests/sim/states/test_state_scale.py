"""Rescaled states obey a contraction, and their statistics follow from the raw ones."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.conversion import from_feedforward
from idl_cli.models.explicit import CNN
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rescaling import contraction_scale, rescale
from idl_cli.sim.states.affine_check import state_columns
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.states.recorders import NetworkRecorder, state_recorder
from idl_cli.sim.states.state_scale import state_scale, why_not_rescalable
from idl_cli.sim.statistics.dense import SufficientStatistics


def _network(widths: list[int], seed: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=4, max_size=6),
    kappa=st.floats(0.05, 0.99),
    magnitude=st.floats(0.1, 30),
    seed=st.integers(0, 10**6),
)
def test_rescaling_keeps_predictions_and_bounds_the_norm(
    widths: list[int], kappa: float, magnitude: float, seed: int
) -> None:
    network = _network(widths, seed).requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(magnitude)
    model = from_feedforward(network)
    rescaled = rescale(model, kappa).requires_grad_(False)
    inputs = torch.randn(8, widths[0], dtype=torch.float64)
    scale = contraction_scale(model.A, kappa)

    norms = rescaled.A.abs().sum(dim=1)
    assert float(norms.max()) <= kappa  # the rival's scale_network(0.99) gave 1.0101
    torch.testing.assert_close(norms, kappa * (1 - 1 / scale), rtol=1e-12, atol=1e-14)
    expected = network(inputs)
    rounding = 1e-12 * float(expected.abs().max())
    torch.testing.assert_close(rescaled(inputs), expected, rtol=0, atol=rounding)


def test_the_scale_read_off_a_network_is_that_of_its_matrix() -> None:
    network = _network([5, 7, 6, 4, 3], seed=3)
    recorder = state_recorder(network, torch.randn(4, 5, dtype=torch.float64))
    expected = contraction_scale(from_feedforward(network).A, 0.9)
    torch.testing.assert_close(state_scale(recorder, 0.9), expected, rtol=1e-13, atol=0)


def test_convolutions_are_scaled_by_their_unrolled_matrix() -> None:
    torch.manual_seed(0)
    network = CNN((1, 6, 6), 3, channels=(2, 3), hidden_dim=4).double()
    images = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    recorder = state_recorder(network, images)
    assert isinstance(recorder, NetworkRecorder)
    batch = recorder.record(images)
    A = torch.zeros(recorder.layout.state_dim, recorder.layout.state_dim, dtype=torch.float64)
    starts = [recorder.layout.state_dim]
    for size in recorder.layout.sizes[::-1]:
        starts.append(starts[-1] - size)
    with left_as_found(network):
        for block in range(3):
            for columns, by_block in state_columns(
                network, recorder.modules, images, block=block, chunk=5
            ):
                for later in range(3):
                    rows = slice(starts[later + 1], starts[later])
                    offset = starts[block + 1]
                    A[rows, offset + columns.start : offset + columns.stop] = by_block[later].T

    # What A leaves of Z comes from the input alone: nothing for all but the first layer's rows.
    rest = batch.pre_activations - batch.states @ A.T
    hidden, second = network.layers[-3], network.layers[4]
    torch.testing.assert_close(rest[:, :4], hidden.bias.expand(5, 4))
    torch.testing.assert_close(
        rest[:, 4 : starts[1]], second.bias.repeat_interleave(4).expand(5, 12)
    )
    scale = state_scale(recorder, 0.8)
    torch.testing.assert_close(scale, contraction_scale(A, 0.8), rtol=1e-12, atol=0)
    assert float((A.abs() @ scale / scale).max()) < 0.8


def test_no_scaling_exists_beyond_the_spectral_radius() -> None:
    A = torch.tensor([[0.0, 1.0], [0.9, 0.0]])
    with pytest.raises(UnsupportedModelError, match=r"spectral radius of \|A\| is 0\.948683"):
        contraction_scale(A, 0.9)
    assert float(contraction_scale(A, 0.96).min()) >= 1


def test_an_implicit_teacher_within_the_bound_is_left_alone() -> None:
    torch.manual_seed(0)
    model = ImplicitModel(4, 2, 6, kappa=0.7)
    recorder = state_recorder(model, torch.randn(3, 4))
    assert torch.equal(state_scale(recorder, 0.7), torch.ones(6, dtype=torch.float64))


def test_activations_that_are_not_homogeneous_are_told() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    reason = why_not_rescalable(state_recorder(network, torch.randn(3, 3)))
    assert reason is not None
    assert "tanh is not positively homogeneous" in reason


def test_statistics_of_rescaled_states_follow_from_the_raw_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.rand(20, 4, generator=generator, dtype=torch.float64)
    inputs = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    targets = {
        "Z": torch.randn(20, 4, generator=generator, dtype=torch.float64),
        "Y": torch.randn(20, 2, generator=generator, dtype=torch.float64),
    }
    scale = torch.tensor([1.0, 2.0, 5.0, 300.0], dtype=torch.float64)
    raw = SufficientStatistics(4, 3, {"Z": 4, "Y": 2})
    raw.update(states, inputs, targets)
    direct = SufficientStatistics(4, 3, {"Z": 4, "Y": 2})
    direct.update(states / scale, inputs, {"Z": targets["Z"] / scale, "Y": targets["Y"]})

    rescaled = raw.rescaled(scale)

    assert rescaled.count == 20
    for name, tensor in direct.tensors().items():
        torch.testing.assert_close(rescaled.tensors()[name], tensor, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("depth", range(1, 21))
def test_a_network_of_any_depth_is_rescaled(depth: int) -> None:
    torch.manual_seed(depth)
    layers: list[nn.Module] = [nn.Linear(10, 32), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(32, 5)).double().eval().requires_grad_(False)
    for layer in network[::2]:
        nn.init.kaiming_normal_(layer.weight)
    exact = from_feedforward(network)
    model = rescale(exact, 0.95).requires_grad_(False)
    assert model.inf_norm_A() <= 0.95
    inputs = torch.randn(50, 10, dtype=torch.float64)
    expected = network(inputs)
    # Powers of the layers' norms come and go: rounding alone is left of them.
    error = (model(inputs) - expected).abs().max() / expected.abs().max()
    assert float(error) < 1e-12
    scale = contraction_scale(exact.A, 0.95)
    assert float(scale.min()) == 1
    shuffled = torch.randperm(len(scale))
    again = contraction_scale(exact.A[shuffled][:, shuffled], 0.95)
    torch.testing.assert_close(again, scale[shuffled], rtol=1e-12, atol=0)


def test_what_a_dtype_cannot_hold_is_refused() -> None:
    A = torch.diag(torch.full((60,), 10.0), 1)
    model = ImplicitModel.from_weights(
        A, torch.ones(61, 2), torch.ones(1, 61), torch.zeros(1, 2), well_posedness="triangular"
    )
    with pytest.raises(UnsupportedModelError, match=r"torch\.float32 cannot hold.*float64"):
        rescale(model, 0.9)
    assert rescale(model.double(), 0.9).inf_norm_A() <= 0.9
    with pytest.raises(UnsupportedModelError, match="beyond what float64 holds"):
        contraction_scale(torch.diag(torch.full((400,), 10.0, dtype=torch.float64), 1), 0.9)
