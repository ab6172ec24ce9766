import pickle
from typing import get_args

import pytest
import torch

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.conditions import ACTIVATION_FACTS, ActivationName
from idl_cli.errors import ArgumentError

ALL = pytest.mark.parametrize("name", activation_names())


def test_facts_maps_and_config_choices_name_the_same_activations() -> None:
    assert set(activation_names()) == set(ACTIVATION_FACTS) == set(get_args(ActivationName))


@ALL
def test_derivative_agrees_with_autograd_away_from_kinks(name: str) -> None:
    activation = get_activation(name)
    # No kink of any activation (0, ±0.5, ±1, ±3, 6) lies on this grid.
    z = (torch.linspace(-8.03, 8.11, 4001, dtype=torch.float64)).requires_grad_()
    (expected,) = torch.autograd.grad(activation.function(z).sum(), z)
    # torch's own backward of hardsigmoid rounds 1/6 to float32.
    rtol = 1e-7 if name == "hardsigmoid" else 1e-9
    torch.testing.assert_close(activation.derivative(z.detach()), expected, rtol=rtol, atol=1e-12)


@ALL
def test_in_place_form_gives_the_same_values(name: str) -> None:
    activation = get_activation(name)
    z = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    expected = activation.function(z)
    assert torch.equal(activation.in_place(z.clone()), expected)


@ALL
def test_function_leaves_its_argument_alone(name: str) -> None:
    z = torch.linspace(-8, 8, 101)
    value = get_activation(name).function(z)
    assert torch.equal(z, torch.linspace(-8, 8, 101))
    assert value.data_ptr() != z.data_ptr()


@ALL
def test_lipschitz_constant_bounds_every_slope_and_is_attained(name: str) -> None:
    activation = get_activation(name)
    z = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    steepest = float(activation.derivative(z).abs().max())
    assert steepest <= activation.lipschitz * (1 + 1e-12)
    # The grid, spaced 1e-4, misses a smooth peak by at most about (1e-4)² in height.
    assert steepest >= activation.lipschitz - 1e-7
    # Difference quotients see what a derivative on a grid could skip: a jump.
    quotients = activation.function(z).diff() / z.diff()
    assert float(quotients.abs().max()) <= activation.lipschitz * (1 + 1e-9)


@ALL
def test_positive_homogeneity_is_what_it_claims(name: str) -> None:
    activation = get_activation(name)
    z = torch.linspace(-4, 4, 401, dtype=torch.float64)
    scaled = activation.function(2 * z)
    homogeneous = torch.allclose(scaled, 2 * activation.function(z), rtol=1e-14, atol=0)
    assert homogeneous == activation.positively_homogeneous


@ALL
def test_derivative_keeps_dtype_and_extreme_arguments_finite(name: str) -> None:
    activation = get_activation(name)
    z = torch.tensor([-1e30, -1e4, -100.0, 0.0, 100.0, 1e4])
    slopes = activation.derivative(z)
    assert slopes.dtype == torch.float32
    assert bool(slopes.isfinite().all())


def test_an_activation_pickles_by_name() -> None:
    activation = get_activation("tanh")
    assert pickle.loads(pickle.dumps(activation)) == activation


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"'rellu'.*relu.*gelu"):
        get_activation("rellu")
