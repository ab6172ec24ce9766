"""Statistics of a layer whose places share their weights: one row an output channel.

A convolution is one regression on the patches that its kernels see (im2col): m samples of maps
with L places are m·L samples of c_in·k_h·k_w features, and a constant where there are offsets. The
sums are of that size squared, whatever the number of samples and places. Layers whose products add
up, as a residual block's and its shortcut's with weights, are one regression on the patches of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.models.convolutional.layer_shapes import LayerShape, Weights
from idl_cli.sim.statistics.dense import SufficientStatistics

TARGET = "T"
_ENTRIES = 2**23
"""Entries of patches held at once, 32 MB in float32; a pixel is in up to k_h·k_w of them."""


def patch_statistics(layers: Sequence[Weights], device: torch.device) -> SufficientStatistics:
    """Statistics of the patches and the sum of layers, of no sample yet.

    Args:
        layers: whose products add up, the one with the offsets last.
        device: of the sums.
    """
    features = sum(layer.weight[0].numel() for layer in layers) + int(layers[-1].bias is not None)
    return SufficientStatistics(0, features, {TARGET: len(layers[-1].weight)}, device=device)


def add_maps(
    statistics: SufficientStatistics,
    layers: Sequence[Weights],
    maps: Sequence[Tensor],
    targets: Tensor,
) -> None:
    """Add a batch.

    Args:
        statistics: from ``patch_statistics``.
        layers: whose statistics; their weights do not matter.
        maps: that each reads, (m, c_in, height, width), or (m, ...) for a fully connected layer.
        targets: what their products shall add up to (m, c_out, height, width), or (m, entries).

    Raises:
        NonFiniteError: one of them holds NaN or infinity.
    """
    places = targets[0, 0].numel()
    size = max(1, _ENTRIES // (places * statistics.feature_dim))
    for start in range(0, len(targets), size):
        chosen = slice(start, start + size)
        features = patches(layers, [each[chosen] for each in maps])
        part = targets[chosen]
        rows = part.flatten(2) if part.dim() > 2 else part[:, :, None]
        statistics.update(features[:, :0], features, {TARGET: rows.transpose(1, 2).flatten(0, 1)})


def patches(layers: Sequence[Weights], maps: Sequence[Tensor]) -> Tensor:
    """What each place of a sum multiplies its layers' weights by (m·L, features).

    Samples first, then places row by row; layer after layer, and a last column of ones where there
    are offsets.
    """
    found = [_patches(layer, each) for layer, each in zip(layers, maps, strict=True)]
    if layers[-1].bias is not None:
        found.append(found[0].new_ones(len(found[0]), 1))
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _patches(layer: Weights, maps: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return maps.flatten(1)
    shape = LayerShape.of(layer)
    assert shape.kernel_size is not None
    columns = functional.unfold(
        maps, shape.kernel_size, shape.dilation, shape.padding, shape.stride
    )
    return columns.transpose(1, 2).flatten(0, 1)
