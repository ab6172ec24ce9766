from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.conditions import MONOTONE
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.conversion import from_feedforward
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.interval import worst_logits

SOLVING: dict[str, Any] = {"forward": {"tol": 1e-13}, "backward": {"tol": 1e-13}}
P, Q = 5, 3


def implicit(seed: int = 0, **options: Any) -> ImplicitModel:
    torch.manual_seed(seed)
    made = ImplicitModel(P, Q, 6, **{"kappa": 0.9, **SOLVING, **options}).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    made.constrain_()
    return made


def convolutional(seed: int = 0, **options: Any) -> ImplicitConv:
    """Of images of 6 x 5 pixels."""
    torch.manual_seed(seed)
    asked = {"channels": [2, 3], "pool": 1, "kappa": 0.9, **SOLVING, **options}
    made = ImplicitConv((6, 5), Q, **asked).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    made.constrain_()
    return made


MODELS: dict[str, Any] = {
    "dense": implicit,
    "low rank": lambda seed=0: implicit(seed, rank=2),
    "triangular": lambda seed=0: implicit(seed, well_posedness="triangular"),
    "no D, no bias, tanh": lambda seed=0: implicit(seed, no_D=True, bias=False, activation="tanh"),
    "mlp": lambda seed=0: MLP((P,), Q, hidden_dims=(7, 4)).double(),
}


def boxes(count: int, radius: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, P, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, Q, (count,), generator=draw)
    return (inputs - radius).clamp(min=0), (inputs + radius).clamp(max=1), labels


@settings(max_examples=20, derandomize=True, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 1000),
    radius=st.sampled_from([0.0, 1e-3, 0.1, 10.0]),
)
def test_no_input_of_the_box_does_worse(name: str, seed: int, radius: float) -> None:
    model = MODELS[name](seed)
    low, high, labels = boxes(4, radius, seed)
    worst = worst_logits(model, low, high, labels)
    assert bool((worst.gather(1, labels[:, None]) == 0).all())
    share = torch.rand(
        200, 4, P, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    share[::2] = share[::2].round()
    outputs = model((low + share * (high - low)).flatten(0, 1)).unflatten(0, (200, 4))
    gaps = outputs - outputs.gather(2, labels.expand(200, 4)[..., None])
    slack = worst - gaps.amax(dim=0)
    assert slack.min() > -1e-10
    if radius == 0:
        assert slack.max() < 1e-10


def test_bounds_are_on_differences_of_outputs() -> None:
    """Where no state is in between they are exact; bounds of single outputs would be wider."""
    model = implicit()
    with torch.no_grad():
        model.C.zero_()
    low, high, labels = boxes(6, 0.2)
    D = model.D
    assert D is not None
    difference = D[None] - D[labels][:, None]
    at = torch.where(difference > 0, high[:, None], low[:, None])
    bias = model.output_bias
    assert bias is not None
    exact = (difference * at).sum(2) + bias - bias[labels][:, None]
    torch.testing.assert_close(worst_logits(model, low, high, labels), exact)


def test_a_network_and_its_implicit_form_have_the_same_bounds() -> None:
    torch.manual_seed(1)
    network = MLP((P,), Q, hidden_dims=(7, 4)).double()
    low, high, labels = boxes(6, 0.2)
    expected = worst_logits(network, low, high, labels)
    same = from_feedforward(network.layers)
    torch.testing.assert_close(worst_logits(same, low, high, labels), expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"channels": [4], "groups": 2, "stride": 2}, {"activation": "tanh", "bias": False}],
)
def test_a_convolution_has_the_bounds_of_its_matrices(options: dict[str, Any]) -> None:
    model = convolutional(**options)
    draw = torch.Generator().manual_seed(1)
    centre = torch.rand(4, 6, 5, generator=draw, dtype=torch.float64)
    low, high = (centre - 0.05).clamp(min=0), (centre + 0.05).clamp(max=1)
    labels = torch.tensor([0, 2, 1, 1])
    formed = model.dense_form()
    formed.forward_settings = model.forward_settings
    worst = worst_logits(model, low, high, labels)
    torch.testing.assert_close(worst, worst_logits(formed, low, high, labels))


def test_the_gradient_of_a_convolution_s_bounds_is_exact() -> None:
    model = convolutional(channels=[2])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.95)  # strictly inside the constraint, on whose edge there is a kink
    draw = torch.Generator().manual_seed(1)
    centre, labels = torch.rand(2, 6, 5, generator=draw, dtype=torch.float64), torch.tensor([0, 2])
    names = [key for key, _ in model.named_parameters()]

    def bounds(*values: Tensor) -> Tensor:
        with torch.nn.utils.stateless._reparametrize_module(
            model, dict(zip(names, values, strict=True))
        ):
            return worst_logits(model, centre - 0.1, centre + 0.1, labels)

    values = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(bounds, values, fast_mode=True)


def test_forms_of_one_matrix_have_the_same_bounds() -> None:
    low, high, labels = boxes(6, 0.2)
    for name in ("low rank", "triangular"):
        model = MODELS[name]()
        weights = model.effective_weights()
        formed = ImplicitModel.from_weights(
            weights.A * 0.5,
            weights.B,
            weights.C,
            weights.D,
            state_bias=weights.state_bias,
            output_bias=weights.output_bias,
            kappa=0.999,
            **SOLVING,
        )
        with torch.no_grad():
            for each in model.parameters():
                if each is getattr(model, "L" if model.rank else "A"):
                    each.mul_(0.5)
        torch.testing.assert_close(
            worst_logits(model, low, high, labels), worst_logits(formed, low, high, labels)
        )


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter_exactly(name: str) -> None:
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.95)  # strictly inside the constraint, on whose edge there is a kink
    low, high, labels = boxes(2, 0.1)
    names = [key for key, _ in model.named_parameters()]

    def bounds(*values: Tensor) -> Tensor:
        with torch.nn.utils.stateless._reparametrize_module(
            model, dict(zip(names, values, strict=True))
        ):
            return worst_logits(model, low, high, labels)

    values = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(bounds, values, fast_mode=True)


def test_what_never_falls_is_known_to() -> None:
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    found = {
        name
        for name in activation_names()
        if bool((get_activation(name).function(z).diff() >= -1e-15).all())
    }
    assert found == MONOTONE


@pytest.mark.filterwarnings("ignore::idl_cli.errors.WellPosednessWarning")
@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: implicit(activation="sin"), "activation=sin is not monotone"),
        (lambda: MLP((P,), Q, activation="gelu").double(), "activation=gelu is not monotone"),
        (lambda: implicit(well_posedness="none"), "well_posedness=none"),
        (lambda: CNN((1, 1, P), Q).double(), "CNN is neither"),
        (lambda: nn.Linear(P, Q), "Linear is neither"),
        (lambda: convolutional(dropout=0.5), "dropout=0.5"),
    ],
)
def test_models_without_bounds_are_refused(model: Any, why: str) -> None:
    with pytest.raises(UnsupportedModelError, match=why):
        worst_logits(model(), *boxes(2, 0.1))
