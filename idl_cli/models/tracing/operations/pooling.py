"""Averages, sums and maxima over windows and axes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing import linear_maps, maxima
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.operations.arguments import (
    Operation,
    as_expression,
    each_of,
    pool_strides,
    sample_axes,
)
from idl_cli.models.tracing.windows import Axis, adaptive_entries


def _pool_axes(
    value: Expression, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> list[Axis]:
    dimensions = len(value.shape) - 1
    sizes, pads = each_of(kernel, dimensions), each_of(padding, dimensions)
    strides = pool_strides(stride, sizes)
    spread = each_of(dilation, dimensions)
    return [
        Axis(size, k, s, p, p, d, ceil)
        for size, k, s, p, d in zip(value.shape[1:], sizes, strides, pads, spread, strict=True)
    ]


def _max_pool(
    states: States,
    value: Expression,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Expression:
    axes = _pool_axes(value, kernel, stride, padding, dilation, ceil_mode)
    return maxima.pooled(states, value, axes)


def _avg_pool(
    states: States,
    value: Expression,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Expression:
    del states
    axes = _pool_axes(value, kernel, stride, padding, 1, ceil_mode)
    return linear_maps.average(
        value, axes, count_padding=count_include_pad, divisor=divisor_override
    )


def _adaptive(states: States, value: Expression, windows: Any, *, largest: bool) -> Expression:
    first = 1
    for axis, count in enumerate(each_of(windows, len(value.shape) - 1), first):
        entries = adaptive_entries(value.shape[axis], count)
        if largest:
            value = maxima.maximum_over(states, value, axis, entries)
        else:
            value = linear_maps.averaged_over(value, axis, entries)
    return value


def _adaptive_avg(states: States, value: Expression, windows: Any) -> Expression:
    return _adaptive(states, value, windows, largest=False)


def _adaptive_max(states: States, value: Expression, windows: Any) -> list[Expression]:
    return [_adaptive(states, value, windows, largest=True)]  # its places would come second


def _reduced(value: Expression, axes: list[int], keepdim: bool) -> Expression:
    if keepdim:
        return value
    return value.reshaped([size for axis, size in enumerate(value.shape) if axis not in axes])


def _whole(value: Expression, axis: int) -> np.ndarray:
    return np.arange(value.shape[axis])[None]


def _mean(
    states: States, value: Expression, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Expression:
    del states, dtype
    axes = sample_axes(dim, value)
    for axis in axes:
        value = linear_maps.averaged_over(value, axis, _whole(value, axis))
    return _reduced(value, axes, keepdim)


def _sum(
    states: States, value: Expression, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Expression:
    count = np.prod([value.shape[axis] for axis in sample_axes(dim, value)])
    return _mean(states, value, dim, keepdim).scaled(np.asarray(float(count)))


def _amax(states: States, value: Expression, dim: Any = None, keepdim: bool = False) -> Expression:
    axes = sample_axes(dim, value)
    for axis in axes:
        value = maxima.maximum_over(states, value, axis, _whole(value, axis))
    return _reduced(value, axes, keepdim)


def _amin(states: States, value: Expression, dim: Any = None, keepdim: bool = False) -> Expression:
    return _amax(states, value.negated, dim, keepdim).negated


def _max(states: States, value: Any, other: Any = None, keepdim: bool = False) -> Any:
    if isinstance(other, int):
        return [_amax(states, value, other, keepdim)]  # its places would come second
    return _maximum(states, value, other)


def _maximum(states: States, left: Any, right: Any) -> Expression:
    left, right = _both(left, right)
    return maxima.maximum(states, left, right)


def _minimum(states: States, left: Any, right: Any) -> Expression:
    left, right = _both(left, right)
    return maxima.maximum(states, left.negated, right.negated).negated


def _both(left: Any, right: Any) -> tuple[Expression, Expression]:
    if left is None or right is None:
        raise UnsupportedModelError("it works along the axis of the samples")
    if not isinstance(left, Expression):
        return as_expression(left, right), right
    return left, right if isinstance(right, Expression) else as_expression(right, left)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "max_pool1d": _max_pool,
        "max_pool2d": _max_pool,
        "avg_pool1d": _avg_pool,
        "avg_pool2d": _avg_pool,
        "adaptive_avg_pool1d": _adaptive_avg,
        "adaptive_avg_pool2d": _adaptive_avg,
        "adaptive_max_pool1d": _adaptive_max,
        "adaptive_max_pool2d": _adaptive_max,
        "mean": _mean,
        "sum": _sum,
        "amax": _amax,
        "amin": _amin,
        "max": _max,
        "maximum": _maximum,
        "minimum": _minimum,
    }
)
