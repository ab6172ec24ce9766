"""Operations that only move entries about: what they do to the numbers of the entries."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression

SAMPLES = 3
"""Samples in a traced batch: enough to see that none is mixed with another."""


def moved(
    value: Expression, operation: Callable[[Tensor], object], fill: float = 0.0
) -> Expression | list[Expression]:
    """Apply an operation that moves, repeats or leaves out entries, or puts a constant beside.

    It is applied to the numbers of the entries, from 1, of a whole batch; 0 where it puts none.

    Args:
        value: of a sample.
        operation: tensor (samples, *shape) to one such tensor, or several.
        fill: the constant.

    Raises:
        UnsupportedModelError: samples do not stay apart, along the first axis.
    """
    size = prod(value.shape)
    numbers = torch.arange(1.0, SAMPLES * size + 1, dtype=torch.float64)
    found = operation(numbers.view(SAMPLES, *value.shape))
    if isinstance(found, list | tuple):
        return [_of_numbers(value, each, size, fill) for each in found]
    assert isinstance(found, Tensor)
    return _of_numbers(value, found, size, fill)


def _of_numbers(value: Expression, numbers: Tensor, size: int, fill: float) -> Expression:
    if numbers.dim() == 0 or len(numbers) != SAMPLES:
        raise UnsupportedModelError(
            "it moves the axis of the samples, or fixes their number; samples must stay apart "
            "along the first axis"
        )
    places = numbers.round().long()
    first = places[0]
    for sample in range(1, SAMPLES):
        if not torch.equal(places[sample], torch.where(first > 0, first + sample * size, 0)):
            raise UnsupportedModelError("it mixes the samples of a batch")
    if bool((first > size).any()):
        raise UnsupportedModelError("it mixes the samples of a batch")
    return value.gathered(first.numpy() - 1, fill)
