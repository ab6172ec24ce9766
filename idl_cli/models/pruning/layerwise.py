"""Prune a network layer by layer, each on the inputs that the pruned layers before it produce.

What Wanda, SparseGPT and ALPS have in common: they see a layer's weights W (r, D) and the Gram
matrix G = Σ x xᵀ (D, D) of its inputs, nothing else. Biases stay. How many weights a layer keeps
follows Erdős and Rényi's random graphs, as in RigL (Evci et al., arXiv 1911.11134, with kernels):
one ratio for all layers, as in those papers on layers of equal size, leaves the small last layers
of a small network next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.pruning.counts import shared_out, weights_to_keep

LayerPruner: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""(W (r, D), G (D, D), non-zeros) → pruned weights (r, D); all in float64."""


@torch.no_grad()
def prune_layer_by_layer(
    model: nn.Module, nonzeros: int, batches: Iterable[Tensor], prune: LayerPruner
) -> None:
    """Prune every linear and convolution layer, in place, in the order of their calls.

    Args:
        model: in evaluation mode.
        nonzeros: weights and biases to be left, at most.
        batches: inputs as the model takes them; gone through once a layer.
        prune: of one layer.

    Raises:
        ArgumentError: fewer than the biases alone.
        UnsupportedModelError: weights that are of no such layer, or a layer that is no matrix.
    """
    layers = _layers_in_order(model, next(iter(batches)))
    for layer, kept in zip(layers, _shares(model, layers, nonzeros), strict=True):
        weight = layer.weight
        if kept >= weight.numel():
            continue
        gram = weight.new_zeros(weight[0].numel(), weight[0].numel(), dtype=torch.float64)

        def add(module: nn.Module, inputs: tuple[Tensor, ...], gram: Tensor = gram) -> None:
            rows = _features(module, inputs[0]).double()
            gram.addmm_(rows.T, rows)

        handle = layer.register_forward_pre_hook(add)
        try:
            for batch in batches:
                model(batch)
        finally:
            handle.remove()
        pruned = prune(weight.flatten(1).double(), gram, kept)
        weight.copy_(pruned.view_as(weight))


def _layers_in_order(model: nn.Module, batch: Tensor) -> list[nn.Linear | nn.Conv2d]:
    called: dict[nn.Module, None] = {}
    found = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    handles = [
        module.register_forward_pre_hook(lambda module, _: called.setdefault(module))
        for module in found
    ]
    try:
        model(batch[:1])
    finally:
        for handle in handles:
            handle.remove()
    matrices = sum(p.requires_grad and p.ndim >= 2 for p in model.parameters())
    if not called or matrices != len(called):
        raise UnsupportedModelError(
            f"{type(model).__name__} has weights outside of linear and convolution layers; "
            "layer by layer only those can be pruned"
        )
    for layer in found:
        if isinstance(layer, nn.Conv2d) and (
            layer.groups > 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
        ):
            raise UnsupportedModelError(
                "a convolution in groups, or whose padding is not a number of zeros, is no matrix "
                "over patches here; layer by layer it cannot be pruned"
            )
    return [layer for layer in found if layer in called]


def _shares(model: nn.Module, layers: Sequence[nn.Linear | nn.Conv2d], nonzeros: int) -> list[int]:
    """Weights that each layer keeps: in proportion to its height plus width, none beyond full."""
    sizes = [layer.weight.numel() for layer in layers]
    sides = [sum(layer.weight.shape) for layer in layers]
    kept = [0] * len(layers)
    left, sparse = weights_to_keep(model, nonzeros), list(range(len(layers)))
    while sparse:
        found = shared_out(left, [sides[layer] for layer in sparse])
        full = [layer for layer, share in zip(sparse, found, strict=True) if share >= sizes[layer]]
        for layer, share in zip(sparse, found, strict=True):
            kept[layer] = sizes[layer] if layer in full else share
        if not full:
            break
        left -= sum(sizes[layer] for layer in full)
        sparse = [layer for layer in sparse if layer not in full]
    return kept


def _features(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each row of a layer's weights is multiplied with: inputs, or patches of an image."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        patches = functional.unfold(
            inputs,
            layer.kernel_size,
            dilation=layer.dilation,
            padding=layer.padding,
            stride=layer.stride,
        )
        return patches.transpose(1, 2).flatten(0, 1)
    return inputs.flatten(0, -2)
