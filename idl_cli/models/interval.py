"""Interval bounds through a model, differentiable: what to train for certified robustness.

They are computed in the model's own precision and rounded to nearest: a loss, not a proof
(``idl certify`` proves). Boxes go through monotone activations alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.conditions import MONOTONE
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    DenseOperator,
    Operator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.equilibrium.operators.box import BoxOperator, centre_and_radius
from idl_cli.equilibrium.precision import full_precision
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.explicit import MLP
from idl_cli.models.implicit import ImplicitModel


def interval_problem(model: nn.Module) -> str | None:
    """Say why no boxes go through a model, None where they do."""
    if isinstance(model, ImplicitModel):
        name = model.activation.name
        if model.well_posedness == "none":
            return "model.well_posedness=none keeps no box bounded; choose linf or triangular"
        if model.whitening is not None:
            components = model.constructor_arguments()["whiten"]
            return f"model.whiten={components}: components mix the inputs of a box; choose null"
    elif isinstance(model, ImplicitConv):
        name = model.activation.name
        if model.dropout:
            return f"model.dropout={model.dropout:g} leaves out features at random; choose 0"
        if model.readout is not None:
            return (
                f"model.readout_channels={model.readout_channels}: a layer that is normalised by "
                "its batch has no box; choose 0"
            )
    elif isinstance(model, MLP):
        name = model.activation
    else:
        return (
            f"{type(model).__name__} is neither an implicit model, convolutional or not, nor a "
            "fully connected network"
        )
    if name not in MONOTONE:
        return f"activation={name} is not monotone; choose one of {', '.join(sorted(MONOTONE))}"
    return None


def worst_logits(model: nn.Module, low: Tensor, high: Tensor, labels: Tensor) -> Tensor:
    """Return, for each class j, the most that ŷ_j − ŷ_label can be on a box of inputs (m, q).

    A sample is certified where all of them but its own, which is 0, are negative. Bounds are on the
    differences: C_j − C_label is formed before the box is applied, which is tighter than bounds of
    two outputs (Gowal et al. 2018, arXiv 1810.12715).

    Args:
        model: an implicit model, convolutional or not, or an MLP.
        low: smallest inputs (m, ...), dtype of the parameters.
        high: largest inputs (m, ...).
        labels: classes (m,), int64.

    Raises:
        UnsupportedModelError: boxes do not go through the model.
    """
    problem = interval_problem(model)
    if problem is not None:
        raise UnsupportedModelError(f"no interval bounds: {problem}")
    ends = torch.cat((low.flatten(1), high.flatten(1)), dim=1)
    with full_precision(ends.device.type):
        if isinstance(model, ImplicitModel):
            states = state_box(model, ends)
            worst = _differences(states, model.C, model.output_bias, labels)
            return worst if model.D is None else worst + _differences(ends, model.D, None, labels)
        if isinstance(model, ImplicitConv):
            features = _each(model.features, convolutional_state_box(model, ends))
            return _differences(features, model.C, model.output_bias, labels)
        assert isinstance(model, MLP), "interval_problem knows no other"
        *hidden, last = model.layers
        for layer in hidden:
            if isinstance(layer, nn.Linear):
                ends = _affine(ends, layer.weight, layer.bias)
            else:
                ends = layer(ends)
        assert isinstance(last, nn.Linear), "an MLP ends with its output layer"
        return _differences(ends, last.weight, last.bias, labels)


def state_box(model: ImplicitModel, ends: Tensor) -> Tensor:
    """Return ends (m, 2n) of a box around the equilibria of all inputs in a box.

    Args:
        model: with a monotone activation.
        ends: smallest, then largest inputs (m, 2p).
    """
    operator = _box_operator(model.operator())
    offset = _affine(ends, model.B, model.state_bias)
    order = None
    if model.well_posedness == "triangular":
        # Each state's two ends side by side: the feedback of the ends is triangular, too.
        order = torch.arange(offset.shape[1], device=offset.device).view(2, -1).t().flatten()
        offset = offset[:, order]
    x = equilibrium(
        operator,
        offset,
        model.activation,
        forward=model.forward_settings,
        backward=model.backward_settings,
        statistics=model.solve_statistics,
    )
    return x if order is None else x[:, order.argsort()]


def convolutional_state_box(model: ImplicitConv, ends: Tensor) -> Tensor:
    """Return ends (m, 2n) of a box around the equilibria of all images in a box.

    Args:
        model: with a monotone activation.
        ends: smallest, then largest inputs (m, 2p).
    """
    centre, radius = map(model.images, centre_and_radius(ends))
    middle, reach = model.injected(centre), model.injected(radius, magnitude=True)
    return equilibrium(
        BoxOperator.around(model.operator()),
        torch.cat((middle - reach, middle + reach), dim=1),
        model.activation,
        forward=model.forward_settings,
        backward=model.backward_settings,
        statistics=model.solve_statistics,
    )


def _each(function: Callable[[Tensor], Tensor], ends: Tensor) -> Tensor:
    """Return both ends after a function that never falls."""
    return torch.cat([function(each) for each in ends.chunk(2, dim=1)], dim=1)


def _box_operator(operator: Operator) -> Operator:
    factors = operator.factors
    matrix = factors[0] if len(factors) == 1 else factors[0] @ factors[1].t()
    if not operator.nilpotent:
        return BoxOperator.around(DenseOperator(matrix))
    same, other = matrix.clamp(min=0), matrix.clamp(max=0)
    blocks = torch.stack((torch.stack((same, other), -1), torch.stack((other, same), -1)), -2)
    size = 2 * matrix.shape[0]
    return StrictlyUpperTriangularOperator(blocks.transpose(1, 2).reshape(size, size))


def _affine(ends: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the ends of the box around W u + b (m, 2k) for a box of u (m, 2p)."""
    centre, radius = centre_and_radius(ends)
    middle = functional.linear(centre, weight, bias)
    reach = functional.linear(radius, weight.abs())
    return torch.cat((middle - reach, middle + reach), dim=1)


def _differences(ends: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """Return the most that each W_j x + b_j − W_label x − b_label is on a box (m, q)."""
    centre, radius = centre_and_radius(ends)
    outputs = functional.linear(centre, weight, bias)
    # One product for all pairs of classes: each sample's own rows would be a tensor (m, q, n).
    spread = (weight[:, None] - weight[None]).abs().flatten(0, 1)
    reach = functional.linear(radius, spread).view(len(ends), len(weight), len(weight))
    reach = reach[torch.arange(len(ends), device=ends.device), labels]
    return outputs - outputs.gather(1, labels[:, None]) + reach
