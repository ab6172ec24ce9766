"""The convolutional implicit model: its equation, its gradient, its bound, its arguments."""

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn import functional

from idl_cli.errors import ArgumentError, ShapeError, UnsupportedModelError
from idl_cli.models.convolutional.implicit_conv import ImplicitConv

TIGHT = {
    "forward": {"tol": 1e-13, "max_iter": 5000},
    "backward": {"tol": 1e-13, "max_iter": 5000},
}
VARIANTS: dict[str, dict[str, object]] = {
    "one scale": {"channels": [4], "stride": 2},
    "groups": {"channels": [4], "groups": 2, "stride": 1},
    "scales": {"channels": [2, 4], "stride": 1},
    "read-out layer": {"channels": [3, 2], "stride": 1, "readout_channels": 4},
    "odd sizes, no bias": {"input_shape": (2, 5, 7), "channels": [2, 2], "bias": False},
}
ALL_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)


def make(variant: str = "one scale", **changes: object) -> ImplicitConv:
    torch.manual_seed(0)
    arguments = {"input_shape": (1, 6, 6), "output_dim": 3, "pool": 2, "input_kernel_size": 3}
    return ImplicitConv(**{**arguments, **VARIANTS[variant], **changes})  # type: ignore[arg-type]


def images(model: ImplicitConv, samples: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, *model.input_shape, generator=generator, dtype=model.C.dtype)


def test_prediction_is_that_of_the_convolutions() -> None:
    model = make("scales", **TIGHT).double()
    u = images(model)
    down = {"stride": 2, "padding": 1}
    injected = [
        functional.conv2d(u, model.B_0, model.state_bias_0, padding=1),
        functional.conv2d(u, model.B_1, model.state_bias_1, **down),
    ]
    x = [torch.zeros_like(each) for each in injected]
    for _ in range(600):
        fine = functional.conv2d(x[0], model.A_0_0, padding=1)
        up = functional.conv_transpose2d(x[1], model.A_0_1, output_padding=1, **down)
        coarse = functional.conv2d(x[1], model.A_1_1, padding=1)
        fed = functional.conv2d(x[0], model.A_1_0, **down)
        x = [torch.relu(injected[0] + fine + up), torch.relu(injected[1] + coarse + fed)]
    for found, expected in zip(model.maps(u), x, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    pooled = [functional.adaptive_avg_pool2d(each, 2).flatten(1) for each in x]
    expected = torch.cat(pooled, dim=1) @ model.C.t() + model.output_bias
    torch.testing.assert_close(model(u), expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(model(u.flatten(1)), expected, atol=1e-11, rtol=0)


@ALL_VARIANTS
def test_the_bound_is_that_of_the_dense_matrix_padding_included(variant: str) -> None:
    model = make(variant)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30)
    model.constrain_()
    dense = model.operator().to_dense().detach().double()
    assert dense.shape == (model.hidden_dim, model.hidden_dim)
    assert float(dense.abs().sum(1).max()) <= model.kappa
    assert model.inf_norm_A() == pytest.approx(float(dense.abs().sum(1).max()), rel=1e-12)
    assert model.inf_norm_A() > 0.5 * model.kappa  # the bound is reached, or nearly where it is one


@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["inside", "outside"])
@pytest.mark.parametrize("variant", ["one scale", "scales"])
def test_gradient_inside_and_outside_the_constraint(variant: str, scale: float) -> None:
    model = make(variant, activation="tanh", kappa=0.6, **TIGHT).double()
    u = images(model, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("A"):
                parameter.mul_(scale)
    names = [name for name, _ in model.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in model.parameters()]

    def predict(*parameters: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, parameters, strict=True)), (u,))

    assert gradcheck(predict, values, fast_mode=True)


@ALL_VARIANTS
def test_its_matrices_make_the_same_model(variant: str) -> None:
    model = make(variant, **TIGHT).double()
    u = images(model)
    model(3 * u + 1)  # so that running means and deviations are none that change nothing
    model.eval()
    dense = model.dense_form()
    torch.testing.assert_close(dense(u), model(u), atol=1e-11, rtol=0)
    states = dense.equilibrium(u)[:, : model.hidden_dim]
    torch.testing.assert_close(states, model.equilibrium(u), atol=1e-11, rtol=0)
    assert dense.inf_norm_A() == pytest.approx(
        max(model.inf_norm_A(), model.kappa if model.readout else 0), rel=1e-8
    )
    with pytest.raises(UnsupportedModelError, match="GiB"):
        make(channels=[16], input_shape=(1, 64, 64), stride=1).dense_form()


def test_a_read_out_layer_is_scaled_within_kappa_only_where_that_is_exact() -> None:
    model = make("read-out layer", activation="tanh", kappa=0.5).eval()
    with pytest.raises(UnsupportedModelError, match=r"above kappa=0\.5.*positively homogeneous"):
        model.dense_form()


@ALL_VARIANTS
def test_a_sample_is_the_same_in_any_batch(variant: str) -> None:
    model = make(variant)
    u = images(model, 7)
    together = model.equilibrium(u)
    for index in (0, 3, 6):
        # Rounding of convolutions of another batch size, over 1 − κ.
        alone = model.equilibrium(u[index : index + 1])
        torch.testing.assert_close(alone, together[index : index + 1], atol=2e-5, rtol=1e-5)


@ALL_VARIANTS
def test_its_arguments_make_it_again(variant: str) -> None:
    model = make(variant, dropout=0.5).eval()
    again = ImplicitConv(**model.constructor_arguments()).eval()  # type: ignore[arg-type]
    again.load_state_dict(model.state_dict())
    u = images(model)
    torch.testing.assert_close(again(u), model(u), atol=0, rtol=0)
    torch.testing.assert_close(copy.deepcopy(model)(u), model(u), atol=0, rtol=0)
    assert not torch.equal(model.train()(u), model(u))  # dropout, in training alone


def test_half_precision_is_that_of_its_rounding() -> None:
    model = make()
    half = copy.deepcopy(model).bfloat16()
    u = images(model)
    # bfloat16 holds 8 bits, and the solve amplifies by at most 1/(1 − κ) = 20.
    torch.testing.assert_close(half(u.bfloat16()).float(), model(u), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_shape": (12,)}, "input_shape"),
        ({"channels": []}, "channels"),
        ({"kernel_size": 4}, "kernel_size=4"),
        ({"channels": [3], "groups": 2}, "groups=2"),
        ({"kappa": 1.0}, "kappa=1"),
        ({"dropout": 1.0}, "dropout"),
        ({"activation": "hardswish"}, "hardswish"),
        ({"stride": 0}, "stride"),
    ],
)
def test_refusals_name_the_argument(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make(**changes)


def test_other_images_are_refused() -> None:
    model = make()
    with pytest.raises(ShapeError, match="6, 6"):
        model(torch.zeros(2, 1, 6, 5))
    with pytest.raises(ShapeError, match="float64"):
        model(torch.zeros(2, 1, 6, 6, dtype=torch.float64))
