"""Mean and spread of data, with what rounding makes of equal numbers told from a spread."""

from __future__ import annotations

import math
from math import prod
from typing import Final

import torch
from torch import Tensor

from idl_cli.errors import DataError

_CHUNK: Final = 4096  # samples converted to float64 at a time
_ROUNDINGS: Final = 4
"""Roundings of the largest value by which numbers that are equal, computed in two ways, differ."""


def mean_and_deviation(
    values: Tensor, shape: tuple[int, ...] | None = None, *, divisor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation over samples, computed in float64.

    Two passes over values that are scaled by a power of two, so that no square overflows or
    vanishes; the second corrects the rounding of the mean (T. Chan, G. Golub, R. LeVeque, The
    American Statistician 37(3), 1983, equation (1.7)).

    A deviation of at most 4 eps times the largest magnitude, eps that of the dtype the values are
    stored in, is what rounding makes of equal numbers: it becomes 1, so that the values become 0
    (but for rounding) and keep their unit where they do vary later.

    Args:
        values: (m, …), m ≥ 1, any real dtype, finite.
        shape: of the statistics, which broadcasts against a sample; that of a sample by default.
        divisor: the values are divided by it first.

    Returns:
        Two tensors of this shape, float64; not finite where a spread exceeds the range of float64.
    """
    sample = tuple(values.shape[1:])
    shape = sample if shape is None else shape
    axes = [0] + [axis + 1 for axis, size in enumerate(shape) if size == 1]
    count = len(values) * prod(sample) // prod(shape)
    chunks = [chunk for chunk in torch.split(values, _CHUNK) if len(chunk)]

    lowest = torch.stack([chunk.amin(axes, keepdim=True)[0].double() for chunk in chunks]).amin(0)
    highest = torch.stack([chunk.amax(axes, keepdim=True)[0].double() for chunk in chunks]).amax(0)
    largest = torch.maximum(lowest.abs(), highest.abs())
    # Halved, since a difference of two values may be twice as large as either.
    power = torch.frexp(largest)[1].to(torch.int32) + 1

    def scaled(chunk: Tensor) -> Tensor:
        return torch.ldexp(chunk.double(), -power)

    total = torch.zeros(shape, dtype=torch.float64)
    for chunk in chunks:
        total += scaled(chunk).sum(axes, keepdim=True)[0]
    mean = total / count
    squares, rest = torch.zeros_like(mean), torch.zeros_like(mean)
    for chunk in chunks:
        difference = scaled(chunk) - mean
        squares += difference.square().sum(axes, keepdim=True)[0]
        rest += difference.sum(axes, keepdim=True)[0]
    deviation = ((squares - rest.square() / count).clamp(min=0) / count).sqrt()

    constant = lowest == highest
    exact = torch.where(constant, lowest, torch.ldexp(mean, power))
    spread = torch.ldexp(deviation, power)
    eps = torch.finfo(values.dtype if values.is_floating_point() else torch.float64).eps
    negligible = constant | (spread <= _ROUNDINGS * eps * largest)
    return exact / divisor, torch.where(negligible, torch.ones_like(spread), spread / divisor)


def is_constant(values: Tensor) -> bool:
    """Whether numbers (m,), m ≥ 1, floating, are all equal or differ by rounding alone."""
    lowest, highest = values.amin(), values.amax()
    eps = torch.finfo(values.dtype).eps
    largest = torch.maximum(lowest.abs(), highest.abs())
    # Halved, since a difference of two values may be twice as large as either.
    return bool(highest / 2 - lowest / 2 <= _ROUNDINGS * eps * largest)


def finite(value: object) -> float:
    """Return a number that was read from a file.

    Raises:
        DataError: it is no finite number.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{value!r} stands where a finite number belongs")
    return float(value)
