"""Exact reductions change nothing, bounded ones no more than they say, whatever the input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.equilibrium.activations import get_activation
from idl_cli.models.compression.bounds import output_bound, sizes_of
from idl_cli.models.compression.boxes import state_box
from idl_cli.models.compression.dropping import dropped
from idl_cli.models.compression.low_rank import with_factors
from idl_cli.models.compression.quantisation import quantised
from idl_cli.models.compression.reductions import reduced
from idl_cli.models.compression.sweeps import amplified
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.conversion import weights_of
from idl_cli.models.sparse.weights import SparseWeights
from idl_cli.models.tracing.network import from_network


def _states(weights: SparseWeights, u: np.ndarray) -> np.ndarray:
    """Equilibria (m, n), by iteration until nothing moves: κ = .9 leaves 1e-16 after 400 steps."""
    A, offset = weights.A.toarray().T, u @ weights.B.toarray().T + weights.state_bias
    ends = weights.ends.tolist()
    parts = [
        (slice(end - size, end), get_activation(name).function)
        for end, size, name in zip(ends, weights.sizes, weights.activations, strict=True)
    ]
    x = np.zeros((len(u), ends[-1]))
    for _ in range(400):
        z = torch.from_numpy(x @ A + offset)
        following = torch.cat([function(z[:, part]) for part, function in parts], dim=1).numpy()
        if np.array_equal(following, x):
            break
        x = following
    return x


def _outputs(weights: SparseWeights, u: np.ndarray) -> np.ndarray:
    x = _states(weights, u)
    found: np.ndarray = x @ weights.C.toarray().T + u @ weights.D.toarray().T
    return found + weights.output_bias


def _model(seed: int, activation: str = "relu", *, feedforward: bool = False) -> SparseWeights:
    """Seven states; A on the ball of .9, or an MLP of three and four."""
    torch.manual_seed(seed)
    if feedforward:
        network = nn.Sequential(
            nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
        )
        return from_network(network.double(), (3,)).weights()
    A = torch.randn(7, 7).double()
    size = 0.8 if activation == "gelu" else 0.9  # gelu has slopes up to 1.13
    A *= size / A.abs().sum(dim=1, keepdim=True)
    model = ImplicitModel.from_weights(
        A,
        torch.randn(7, 3).double(),
        torch.randn(2, 7).double(),
        torch.randn(2, 3).double(),
        state_bias=torch.randn(7).double(),
        output_bias=torch.randn(2).double(),
        activation=activation,
        kappa=size,
    )
    return weights_of(model)


def _network() -> nn.Sequential:
    """With a state of every kind that can be left out."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 2)
    ).double()
    first, second = network[0], network[2]
    with torch.no_grad():
        first.weight[0], first.bias[0] = 0, -1  # never active
        first.weight[1], first.bias[1] = 0, 1  # always 1
        first.weight[3], first.bias[3] = first.weight[2], first.bias[2]
        second.weight[:, 4] = 0  # feeds nothing
        second.weight[0], second.bias[0] = -second.weight[0].abs(), -0.1  # of states >= 0
        second.weight[2], second.bias[2] = second.weight[1], second.bias[1]
        first.weight[:, 3] = 0  # an input that is not used
    return network


def test_states_that_change_nothing_are_left_out() -> None:
    network = _network()
    weights = from_network(network, (5,)).weights()
    found = reduced(weights)
    assert (found.constant, found.unreachable, found.duplicate) == (3, 1, 2)
    assert found.unused_inputs == 1
    assert found.weights.sizes == (5, 4)
    u = 5 * np.random.default_rng(0).normal(size=(50, 5))
    expected = network(torch.from_numpy(u)).detach().numpy()
    np.testing.assert_allclose(_outputs(found.weights, u), expected, rtol=0, atol=1e-13)


def test_duplicates_of_duplicates_and_of_cycles_are_found() -> None:
    """Two copies of a model that feeds back on itself, side by side, are one."""
    one = _model(0)
    A, B, C = one.A.toarray(), one.B.toarray(), one.C.toarray()
    nothing = np.zeros_like(A)
    # The second copy is fed by both in halves: its rows equal the first's only once merged.
    doubled = weights_of(
        ImplicitModel.from_weights(
            torch.from_numpy(np.block([[A, nothing], [A, nothing]])),
            torch.from_numpy(np.concatenate([B, B])),
            torch.from_numpy(np.concatenate([C, C], axis=1) / 2),
            torch.from_numpy(one.D.toarray()),
            state_bias=torch.from_numpy(np.tile(one.state_bias, 2)),
            output_bias=torch.from_numpy(one.output_bias),
        )
    )
    found = reduced(doubled)
    assert (found.duplicate, found.weights.A.shape) == (7, (7, 7))
    u = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(_outputs(found.weights, u), _outputs(one, u), rtol=0, atol=1e-12)


def test_a_model_of_constants_keeps_one_state() -> None:
    weights = _model(0, feedforward=True)
    constant = replace(weights, B=weights.B * 0)
    found = reduced(constant)
    assert found.weights.A.shape == (1, 1)
    u = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(_outputs(found.weights, u), _outputs(constant, u), atol=1e-14)


ACTIVATIONS = ["relu", "tanh", "sigmoid", "abs", "softplus", "sin", "gelu"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 3))
def test_bounds_hold_for_what_is_dropped_and_rounded(
    activation: str, seed: int, size: float
) -> None:
    weights = _model(seed % 1000, activation)
    generator = np.random.default_rng(seed)
    low = -size * generator.uniform(0, 1, 3)
    high = size * generator.uniform(0, 1, 3)
    u = generator.uniform(low, high, size=(40, 3))
    u[:8] = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, 8).T
    x, y = _states(weights, u), _outputs(weights, u)
    lowest, highest = state_box(weights, low, high)
    sizes = sizes_of(weights, low, high)
    assert (x >= lowest - 1e-12).all()
    assert (x <= highest + 1e-12).all()
    assert (np.abs(x) <= sizes.states + 1e-12).all()
    tolerance = 0.3 * float(np.abs(y).max())
    found, bound = dropped(weights, sizes, tolerance)
    assert bound.max() <= tolerance
    assert (np.abs(_outputs(found, u) - y) <= bound + 1e-11).all()
    coded = quantised(weights, torch.float64)
    bound = output_bound(weights, coded, sizes)
    assert np.isfinite(bound).all()
    assert (np.abs(_outputs(coded, u) - y) <= bound + 1e-11).all()


def test_weights_are_left_out_as_far_as_the_tolerance_goes() -> None:
    weights = _model(3, feedforward=True)
    sizes = sizes_of(weights, -np.ones(3), np.ones(3))
    left = [dropped(weights, sizes, each)[0].nonzeros for each in (0.0, 0.05, 0.5, 1e3)]
    assert left[0] == weights.nonzeros
    assert left == sorted(left, reverse=True)
    assert left[1] > left[2]
    # Everything fits: the biases alone are left.
    assert left[3] == sum(
        np.count_nonzero(each) for each in (weights.state_bias, weights.output_bias)
    )


def test_a_bound_that_cannot_be_proven_is_infinite() -> None:
    weights = _model(0)
    wild = replace(weights, A=weights.A * 2)
    assert np.isinf(amplified(wild, np.ones(7))).all()
    sizes = sizes_of(weights, -np.ones(3), np.ones(3))
    assert np.isinf(output_bound(weights, wild, sizes)).all()


def test_low_rank_factors_are_exact_and_small() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 18), nn.ReLU(), nn.Linear(18, 2)
    ).double()
    with torch.no_grad():
        network[2].weight.copy_(torch.randn(18, 3) @ torch.randn(3, 20) / 10)
        network[2].weight[4, 5] += 3
    weights = from_network(network, (12,)).weights()
    found = with_factors(weights, 4)
    assert found.activations == ("relu", "identity", "relu", "identity")
    u = np.random.default_rng(0).normal(size=(20, 12))
    np.testing.assert_allclose(_outputs(found, u), _outputs(weights, u), rtol=0, atol=1e-12)
    found.check_triangular()
    sizes = sizes_of(found, u.min(axis=0), u.max(axis=0))
    smaller, bound = dropped(found, sizes, 1e-6)  # of rank 3 and one entry: nothing but rounding
    assert smaller.A.nnz < 18 * 20
    assert (np.abs(_outputs(smaller, u) - _outputs(weights, u)) <= bound + 1e-12).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_eight_bits_enlarge_no_row(seed: int) -> None:
    weights = _model(seed % 10**4)
    norms = abs(weights.A).sum(axis=1)
    for dtype in (torch.float32, torch.float64):
        found = quantised(weights, dtype)
        # What is left above is rounding of the sums and of the multiples.
        assert (abs(found.A).sum(axis=1) <= norms * (1 + 4 * torch.finfo(dtype).eps)).all()
        steps = abs(found.A).max(axis=1).toarray() / 127
        codes = found.A.toarray() / steps
        assert np.abs(codes - np.round(codes)).max() < 1e-4
