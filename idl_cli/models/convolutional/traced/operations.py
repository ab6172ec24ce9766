"""What torch's operations do to maps and to sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import LEAKY_RELU_SLOPE
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.convolutional.layer_shapes import LayerShape, Pool
from idl_cli.models.convolutional.traced.layers import Layers
from idl_cli.models.convolutional.traced.values import Maps, Sum, Term, Value
from idl_cli.models.tracing.moves import SAMPLES
from idl_cli.models.tracing.operations import activations
from idl_cli.models.tracing.operations.arguments import (
    each_of,
    paddings,
    pool_strides,
    running_statistics,
)

Operation = Callable[..., Any]
"""(layers, *arguments of the torch operation) to values, or to a list of them."""


def _conv2d(
    layers: Layers,
    value: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Sum:
    where = f"layer {layers.module!r}"
    maps = _read(value, where)
    maps.require_maps()
    if groups != 1:
        raise UnsupportedModelError(f"{where} has {groups} groups")
    kernel, spread = (weight.shape[2], weight.shape[3]), _pair(dilation)
    (top, bottom), (left, right) = paddings(padding, kernel, spread)
    if top != bottom or left != right:
        raise UnsupportedModelError(f"{where} is padded by more on one side than on the other")
    shape = LayerShape(
        len(weight), False, kernel, _pair(stride), (top, left), spread, reads=maps.read
    )
    return _sum(layers, shape, maps.maps, weight, bias)


def _linear(layers: Layers, value: Value, weight: Tensor, bias: Tensor | None = None) -> Sum:
    maps = _read(value, f"layer {layers.module!r}")
    if len(maps.shape) != 1:
        raise UnsupportedModelError(
            f"layer {layers.module!r} takes the last axis of {maps.shape} alone; a fully connected "
            "layer takes all entries"
        )
    shape = LayerShape(len(weight), False, reads=maps.read)
    return _sum(layers, shape, maps.maps, weight, bias)


def _sum(
    layers: Layers,
    shape: LayerShape,
    maps: tuple[int, ...],
    weight: Tensor,
    bias: Tensor | None,
) -> Sum:
    term = Term(weight.detach().double(), shape, weight.data_ptr(), layers.module)
    offset = None if bias is None else bias.detach().double()
    return Sum(shape.output_shape(maps), (term,), (), offset)


def _addmm(
    layers: Layers, bias: Any, left: Any, right: Any, beta: float = 1, alpha: float = 1
) -> Sum:
    if (beta, alpha) != (1, 1) or not isinstance(left, Value) or not isinstance(bias, Tensor):
        raise UnsupportedModelError("a product that is no fully connected layer")
    return _linear(layers, left, right.T, bias)


def _matmul(layers: Layers, left: Any, right: Any) -> Sum:
    if not isinstance(left, Value) or not isinstance(right, Tensor) or right.dim() != 2:
        raise UnsupportedModelError("a product that is no fully connected layer")
    return _linear(layers, left, right.T)


def _read(value: Value, where: str) -> Maps:
    if not isinstance(value, Maps):
        raise UnsupportedModelError(
            f"{where} follows another layer without an activation between them"
        )
    return value


def _batch_norm(
    layers: Layers,
    value: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    epsilon: float,
    cudnn: bool,
) -> Sum:
    del momentum, cudnn
    where = f"normalisation {layers.module!r}"
    mean, variance = running_statistics(training, mean, variance)
    if not isinstance(value, Sum):
        raise UnsupportedModelError(
            f"{where} stands before a layer, with the activation between them; folded is one that "
            "follows its layer"
        )
    factor = (variance.detach().double() + epsilon).rsqrt()
    if weight is not None:
        factor = factor * weight.detach().double()
    shift = -mean.detach().double() * factor
    return value.scaled(factor, shift if bias is None else shift + bias.detach().double())


def _add(layers: Layers, left: Any, right: Any, alpha: float = 1) -> Sum:
    del layers
    if alpha != 1 or not isinstance(left, Value) or not isinstance(right, Value):
        raise UnsupportedModelError("it adds something else than two layers or maps, as they are")
    if isinstance(left, Sum):
        return left.plus(right)
    if isinstance(right, Sum):
        return right.plus(left)
    return Sum(left.shape).plus(left).plus(right)


def _max_pool(
    layers: Layers,
    value: Value,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    sizes = _pair(kernel)
    pool = Pool(
        "maximum",
        sizes,
        _pair(pool_strides(stride, sizes)),
        _pair(padding),
        _pair(dilation),
        bool(ceil_mode),
    )
    return _pooled(layers, value, pool)


def _avg_pool(
    layers: Layers,
    value: Value,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    if divisor_override is not None:
        raise UnsupportedModelError("an average with a divisor of its own")
    sizes = _pair(kernel)
    pool = Pool(
        "average",
        sizes,
        _pair(pool_strides(stride, sizes)),
        _pair(padding),
        ceil_mode=bool(ceil_mode),
        count_padding=bool(count_include_pad),
    )
    return _pooled(layers, value, pool)


def _pooled(layers: Layers, value: Value, pool: Pool) -> Value:
    if isinstance(value, Maps):
        return value.pooled(pool)
    assert isinstance(value, Sum)
    if pool.kind == "average":
        raise UnsupportedModelError(
            f"pooling {layers.module!r} averages between a layer and its activation"
        )
    shape = value.shape
    if len(shape) != 3:
        raise UnsupportedModelError(f"it takes maps, and gets a sample of shape {shape}")
    return Sum(
        pool.output_shape(shape), value.terms, value.adds, value.offset, (*value.pools, pool)
    )


def _adaptive(kind: str) -> Operation:
    def operation(layers: Layers, value: Value, windows: Any) -> Value:
        counts = _pair(windows)
        if len(value.shape) != 3 or any(
            n is None or size % n for size, n in zip(value.shape[1:], counts, strict=True)
        ):
            raise UnsupportedModelError(
                f"it pools maps of {value.shape} to {counts}, whose windows are not all of one size"
            )
        height, width = (size // n for size, n in zip(value.shape[1:], counts, strict=True))
        take = _avg_pool if kind == "average" else _max_pool
        return take(layers, value, [height, width])

    return operation


def _adaptive_max(layers: Layers, value: Value, windows: Any) -> list[Value]:
    return [_adaptive("maximum")(layers, value, windows)]  # its places would come second


def _mean(
    layers: Layers, value: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    del dtype
    given = [dim] if isinstance(dim, int) else dim or []
    axes = sorted(each % (len(value.shape) + 1) for each in given)
    if axes != [2, 3]:
        raise UnsupportedModelError("an average over other axes than height and width")
    found = _avg_pool(layers, value, list(value.shape[1:]))
    return found if keepdim else found.reshaped(found.shape[:1])


def _shaped(name: str) -> Operation:
    """An operation that moves no entry: torch itself says which shape it gives."""

    def operation(layers: Layers, value: Value, *given: Any) -> Value:
        del layers
        batch = torch.empty(SAMPLES, *value.shape, device="meta")
        shape = getattr(torch.ops.aten, name)(batch, *given).shape
        if shape[0] != SAMPLES or prod(shape[1:]) != prod(value.shape):
            raise UnsupportedModelError("it works along the axis of the samples")
        return value.reshaped(shape[1:])

    return operation


def _same(layers: Layers, value: Value, *given: Any) -> Value:
    del layers, given
    return value


def _leaky_relu(layers: Layers, value: Value, slope: float = LEAKY_RELU_SLOPE) -> Maps:
    if slope != LEAKY_RELU_SLOPE:
        raise UnsupportedModelError(
            f"leaky_relu with slope={slope}; known with slope={LEAKY_RELU_SLOPE} alone"
        )
    return layers.activated(value, "leaky_relu")


def _hardtanh(layers: Layers, value: Value, low: float = -1, high: float = 1) -> Maps:
    known: dict[tuple[float, float], str] = {(-1, 1): "hardtanh", (0, 6): "relu6"}
    if (low, high) not in known:
        raise UnsupportedModelError(f"a clipping at {low} and {high}")
    return layers.activated(value, known[low, high])


def _pair(number: Any) -> tuple[int, int]:
    first, second = each_of(number, 2)
    return first, second


_NAMED = (
    *("relu", "relu6", "tanh", "sigmoid", "elu", "celu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "softplus", "hardsigmoid", "log_sigmoid", "softshrink", "softsign"),
)
_SHAPED = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
_SAME = ("contiguous", "clone", "detach", "alias")
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "conv2d": _conv2d,
        "linear": _linear,
        "addmm": _addmm,
        "mm": _matmul,
        "matmul": _matmul,
        "batch_norm": _batch_norm,
        "add": _add,
        "max_pool2d": _max_pool,
        "avg_pool2d": _avg_pool,
        "adaptive_avg_pool2d": _adaptive("average"),
        "adaptive_max_pool2d": _adaptive_max,
        "mean": _mean,
        "leaky_relu": _leaky_relu,
        "hardtanh": _hardtanh,
        **{name: activations.OPERATIONS[name] for name in (*_NAMED, *_DROPOUTS)},
        **{name: _shaped(name) for name in _SHAPED},
        **dict.fromkeys(_SAME, _same),
    }
)
"""By the name of the ATen operation, without the underscore of those that work in place."""
