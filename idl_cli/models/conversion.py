"""A feed-forward network as an implicit model: exact, with a strictly upper triangular A."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.activation_modules import (
    activation_name,
    applies_activation,
    keeps_forward,
    why_unknown,
)
from idl_cli.models.implicit import ImplicitModel


@dataclass(frozen=True)
class AffineMap:
    """h ↦ W h + b; ``weight`` (out, in), ``bias`` (out,)."""

    weight: Tensor
    bias: Tensor

    def then(self, weight: Tensor, bias: Tensor | None) -> AffineMap:
        """This map followed by h ↦ weight h + bias."""
        moved = weight @ self.bias
        return AffineMap(weight @ self.weight, moved if bias is None else moved + bias)


def _leaves(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers in the order they are applied; only Sequential is known to apply them in order."""
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential) and keeps_forward(child, nn.Sequential):
            yield from _leaves(child, f"{path}.")
        else:
            yield path, child


def _followed_by(current: AffineMap | None, name: str, layer: nn.Module) -> AffineMap:
    """``current`` (None: the identity) followed by one affine layer."""
    if isinstance(layer, nn.Linear) and keeps_forward(layer, nn.Linear):
        weight = layer.weight.detach()
        bias = None if layer.bias is None else layer.bias.detach()
    elif (
        isinstance(layer, nn.BatchNorm1d)
        and keeps_forward(layer, nn.BatchNorm1d)
        and not layer.training
        and layer.running_var is not None
    ):
        assert layer.running_mean is not None
        factor = (layer.running_var + layer.eps).rsqrt()
        if layer.weight is not None:
            factor = factor * layer.weight.detach()
        shift = -factor * layer.running_mean
        bias = shift if layer.bias is None else shift + layer.bias.detach()
        weight = factor.diag()
    elif applies_activation(layer):
        raise UnsupportedModelError(f"activation {name!r} {why_unknown(layer)}")
    else:
        raise UnsupportedModelError(
            f"layer {name!r} ({type(layer).__name__}) has no exact form here; what has one: "
            "Flatten, Linear, BatchNorm1d and Dropout in evaluation mode, Identity, and activations"
        )
    if current is None:
        zero = weight.new_zeros(weight.shape[0])
        return AffineMap(weight, zero if bias is None else zero + bias)
    if weight.shape[1] != current.weight.shape[0]:
        raise UnsupportedModelError(
            f"layer {name!r} takes {weight.shape[1]} entries and is given {current.weight.shape[0]}"
        )
    return current.then(weight, bias)


def _passes_on(layer: nn.Module) -> bool:
    """Whether a layer gives out the entries of each sample as they came in."""
    if isinstance(layer, nn.Flatten):
        return keeps_forward(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.Dropout):
        return keeps_forward(layer, nn.Dropout) and (not layer.training or layer.p == 0)
    return keeps_forward(layer, nn.Identity)


def affine_stages(network: nn.Sequential) -> tuple[list[AffineMap], str]:
    """The affine maps between a network's activations, first layer first, and the activation.

    Args:
        network: nested ``Sequential`` of Flatten, Linear, BatchNorm1d and Dropout in evaluation
            mode, Identity and activations, all activations the same.

    Raises:
        UnsupportedModelError: a layer cannot be expressed; the message names it.
    """
    if not keeps_forward(network, nn.Sequential):
        raise UnsupportedModelError(
            f"the network ({type(network).__name__}) has a forward of its own; only Sequential is "
            "known to apply its layers in order"
        )
    stages: list[AffineMap] = []
    activation: tuple[str, str] | None = None
    current: AffineMap | None = None
    for name, layer in _leaves(network):
        kind = activation_name(layer)
        if _passes_on(layer):
            continue
        if kind is None:
            current = _followed_by(current, name, layer)
            continue
        if activation is not None and activation[1] != kind:
            raise UnsupportedModelError(
                f"the network mixes activations: {activation[0]!r} is {activation[1]}, {name!r} is "
                f"{kind}; an implicit model applies one activation to all its states"
            )
        if current is None:
            raise UnsupportedModelError(
                f"activation {name!r} follows no linear layer; start the network with one"
            )
        activation = activation or (name, kind)
        stages.append(current)
        width = len(current.bias)
        eye = torch.eye(width, dtype=current.bias.dtype, device=current.bias.device)
        current = AffineMap(eye, torch.zeros_like(current.bias))
    if activation is None or current is None:
        raise UnsupportedModelError("the network has no activation modules, so it has no states")
    return [*stages, current], activation[1]


def from_feedforward(network: nn.Sequential) -> ImplicitModel:
    """The exact implicit form of a feed-forward network.

    The hidden activations are stacked last layer first, x = (x_L, …, x_1): W_l stands on the first
    block super-diagonal of A, the first layer in the last block row of B, the output layer in the
    first block column of C, and D = 0. A is strictly upper triangular, so one sweep of L steps is
    the equilibrium.

    Args:
        network: nested ``Sequential`` of Flatten, Linear, BatchNorm1d and Dropout in evaluation
            mode, Identity and activations, all activations the same. It is left as it is.

    Returns:
        A model that gives the network's outputs to round-off, checked on random inputs. Its
        ‖A‖∞ may exceed 1; ``rescale`` gives the same predictions with ‖A‖∞ ≤ κ.

    Raises:
        UnsupportedModelError: a layer cannot be expressed; the message names it.
    """
    stages, activation = affine_stages(network)
    sizes = [len(stage.bias) for stage in stages[:-1]]
    states, inputs, outputs = sum(sizes), stages[0].weight.shape[1], len(stages[-1].bias)
    like = stages[0].weight
    A, B = like.new_zeros(states, states), like.new_zeros(states, inputs)
    C, D = like.new_zeros(outputs, states), like.new_zeros(outputs, inputs)
    state_bias = like.new_zeros(states)
    end = states
    for layer, stage in enumerate(stages[:-1]):
        rows = slice(end - sizes[layer], end)
        if layer == 0:
            B[rows] = stage.weight
        else:
            A[rows, end : end + sizes[layer - 1]] = stage.weight
        state_bias[rows] = stage.bias
        end = rows.start
    C[:, : sizes[-1]] = stages[-1].weight
    model = ImplicitModel.from_weights(
        A,
        B,
        C,
        D,
        state_bias=state_bias,
        output_bias=stages[-1].bias,
        activation=activation,
        well_posedness="triangular",
    )
    _assert_same(network, model, inputs)
    return model


@torch.no_grad()
def _assert_same(network: nn.Sequential, model: ImplicitModel, input_dim: int) -> None:
    """Compare on a few random inputs: a hook may change what a layer computes."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, input_dim, generator=generator).to(model.A)
    expected, found = network(probe), model(probe)
    # Sums of up to thousands of terms in another order: rounding relative to the largest output.
    tolerance = 1e3 * torch.finfo(found.dtype).eps * (1 + float(expected.abs().max()))
    if expected.shape != found.shape or bool(((expected - found).abs() > tolerance).any()):
        raise UnsupportedModelError(
            "the network does not compute what its layers say (a hook); "
            "its exact form would predict something else"
        )
