"""Statistics of a layer whose places share their weights: one row an output channel.

A convolution is one regression on the patches that its kernels see (im2col): m samples of maps
with L places are m·L samples of c_in·k_h·k_w features, and a constant where there are offsets. The
sums are of that size squared, whatever the number of samples and places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.models.convolutional.feedforward_conv import LayerShape, Weights
from idl_cli.sim.statistics.dense import SufficientStatistics

TARGET = "T"
_ENTRIES = 2**23
"""Entries of patches held at once, 32 MB in float32; a pixel is in up to k_h·k_w of them."""


def patch_statistics(layer: Weights, device: torch.device) -> SufficientStatistics:
    """Statistics of a layer's patches and pre-activations, of no sample yet."""
    features = layer.weight[0].numel() + int(layer.bias is not None)
    return SufficientStatistics(0, features, {TARGET: len(layer.weight)}, device=device)


def add_maps(
    statistics: SufficientStatistics, layer: Weights, maps: Tensor, targets: Tensor
) -> None:
    """Add a batch.

    Args:
        statistics: from ``patch_statistics``.
        layer: whose statistics; its weights do not matter.
        maps: that it reads, (m, c_in, height, width), or (m, ...) for a fully connected layer.
        targets: pre-activations (m, c_out, height, width), or (m, entries).

    Raises:
        NonFiniteError: one of them holds NaN or infinity.
    """
    places = targets[0, 0].numel()
    size = max(1, _ENTRIES // (places * statistics.feature_dim))
    for part, of_part in zip(torch.split(maps, size), torch.split(targets, size), strict=True):
        features = patches(layer, part)
        rows = of_part.flatten(2) if of_part.dim() > 2 else of_part[:, :, None]
        statistics.update(features[:, :0], features, {TARGET: rows.transpose(1, 2).flatten(0, 1)})


def patches(layer: Weights, maps: Tensor) -> Tensor:
    """What each place of a layer multiplies its weights by (m·L, features).

    Samples first, then places row by row; a last column of ones where the layer has offsets.
    """
    if isinstance(layer, nn.Linear):
        found = maps.flatten(1)
    else:
        shape = LayerShape.of(layer)
        assert shape.kernel_size is not None
        columns = functional.unfold(
            maps, shape.kernel_size, shape.dilation, shape.padding, shape.stride
        )
        found = columns.transpose(1, 2).flatten(0, 1)
    if layer.bias is None:
        return found
    return torch.cat([found, found.new_ones(len(found), 1)], dim=1)
