"""What a sum of layers' products is made of, and the products."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from idl_cli.models.convolutional.layer_shapes import Weights


@dataclass(frozen=True, eq=False)
class Entering:
    """What a sum is made of.

    Attributes:
        reads: the maps (m, ...) that each of its layers multiplies.
        added: what is added as it is, (m, channels, height, width); None for nothing.
    """

    reads: tuple[Tensor, ...]
    added: Tensor | None


def multiplied(module: Weights, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A layer's products, with other weights and offsets than its own."""
    if isinstance(module, nn.Linear):
        return functional.linear(maps.flatten(1), weight, bias)
    return functional.conv2d(maps, weight, bias, module.stride, module.padding, module.dilation)
