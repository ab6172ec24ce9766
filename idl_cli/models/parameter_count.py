"""Networks of equal size: the width whose number of parameters comes nearest to a wish."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from idl_cli.errors import ArgumentError


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable values of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def nearest_width(make: Callable[[int], nn.Module], target: int) -> int:
    """Return the width >= 1 whose model has the parameter count nearest to ``target``.

    Of two equally near the smaller. No weights are drawn: the models are made on the meta device.

    Args:
        make: makes the model of a width; its parameter count must grow with the width.
        target: wished number of parameters.

    Raises:
        ArgumentError: even the model of width 1 has more than twice ``target`` parameters.
    """

    def count(width: int) -> int:
        with torch.device("meta"):
            return parameter_count(make(width))

    smallest = count(1)
    if smallest > 2 * target:
        raise ArgumentError(
            f"match_parameters={target} is out of reach: the smallest such network has "
            f"{smallest} parameters. Ask for more, or choose fewer layers."
        )
    below, above = 1, 2
    while count(above) < target:
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        if count(middle) < target:
            below = middle
        else:
            above = middle
    return below if target - count(below) <= count(above) - target else above
