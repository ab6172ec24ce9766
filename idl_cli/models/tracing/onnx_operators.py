"""What ONNX's operators do to expressions: one entry an operator, all else is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from idl_cli.equilibrium.activations import LEAKY_RELU_SLOPE
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing import linear_maps, maxima
from idl_cli.models.tracing.expressions import Expression
from idl_cli.models.tracing.onnx_movement import MOVEMENTS
from idl_cli.models.tracing.onnx_node import Node, Operator
from idl_cli.models.tracing.windows import Axis


def _simple(name: str) -> Operator:
    return lambda node: node.torch(name, *map(_as_torch, node.inputs))


def _as_torch(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def _gemm(node: Node) -> Expression:
    left, right = node.value, node.constant(1)
    if node.attributes.get("transA"):
        raise UnsupportedModelError("it transposes the axis of the samples")
    matrix = right.T if node.attributes.get("transB") else right
    product = linear_maps.times(left, np.asarray(matrix, float))
    product = product.scaled(np.asarray(float(node.attributes.get("alpha", 1.0))))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return product
    beta = float(node.attributes.get("beta", 1.0))
    added: Expression = node.torch("add", product, _as_torch(bias), beta)
    return added


def _axes(node: Node, kernel: Sequence[int]) -> list[Axis]:
    sizes = node.value.shape[1:]
    count = len(sizes)
    if len(kernel) != count or count not in (1, 2):
        raise UnsupportedModelError(f"windows of {len(kernel)} axes on a value of {count}")
    strides = list(node.attributes.get("strides", [1] * count))
    dilations = list(node.attributes.get("dilations", [1] * count))
    pads = list(node.attributes.get("pads", [0] * 2 * count))
    automatic = node.attributes.get("auto_pad", b"NOTSET").decode()
    if automatic == "VALID":
        pads = [0] * 2 * count
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
            for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = small + large if automatic == "SAME_UPPER" else large + small
    ceil = bool(node.attributes.get("ceil_mode", 0))
    return [
        Axis(sizes[i], kernel[i], strides[i], pads[i], pads[count + i], dilations[i], ceil)
        for i in range(count)
    ]


def _conv(node: Node) -> Expression:
    weight, bias = node.constant(1), node.constant(2)
    if weight is None:
        raise UnsupportedModelError("its weights are missing")
    axes = _axes(node, weight.shape[2:])
    return linear_maps.convolution(
        node.value,
        np.asarray(weight, float),
        None if bias is None else np.asarray(bias, float),
        stride=[axis.stride for axis in axes],
        padding=[(axis.before, axis.after) for axis in axes],
        dilation=[axis.dilation for axis in axes],
        groups=int(node.attributes.get("group", 1)),
    )


def _max_pool(node: Node) -> Expression:
    return maxima.pooled(
        node.states, node.value, _axes(node, list(node.attributes["kernel_shape"]))
    )


def _average_pool(node: Node) -> Expression:
    axes = _axes(node, list(node.attributes["kernel_shape"]))
    if any(axis.dilation != 1 for axis in axes):
        raise UnsupportedModelError("an average with dilations")
    padded = bool(node.attributes.get("count_include_pad", 0))
    return linear_maps.average(node.value, axes, count_padding=padded)


def _global(name: str) -> Operator:
    def operation(node: Node) -> Any:
        dimensions = list(range(2, len(node.value.shape) + 1))
        return node.torch(name, node.value, dimensions, True)

    return operation


def _batch_normalization(node: Node) -> Expression:
    if node.attributes.get("training_mode"):
        raise UnsupportedModelError("batch normalisation with the statistics of each batch")
    weight, bias, mean, variance = (
        np.asarray(node.constant(number), float) for number in range(1, 5)
    )
    epsilon = float(node.attributes.get("epsilon", np.float32(1e-5)))  # a single number, as given
    return linear_maps.normalised(node.value, weight, bias, mean, variance, epsilon)


def _reduced(name: str) -> Operator:
    def operation(node: Node) -> Any:
        axes = node.constant(1, "axes")
        if axes is None:
            raise UnsupportedModelError("it works along the axis of the samples")
        keep = bool(node.attributes.get("keepdims", 1))
        return node.torch(name, node.value, [int(axis) for axis in axes], keep)

    return operation


def _over_all(name: str) -> Operator:
    return lambda node: reduce(
        lambda left, right: node.torch(name, left, right), map(_as_torch, node.inputs)
    )


def _clip(node: Node) -> Expression:
    low, high = (node.constant(1, "min"), node.constant(2, "max"))
    limits = [None if each is None else float(np.ravel(each)[0]) for each in (low, high)]
    if limits == [0, 6]:
        return node.states.activated(node.value, "relu6")
    if limits == [-1, 1]:
        return node.states.activated(node.value, "hardtanh")
    return maxima.clipped(node.states, node.value, *limits)


def _hard_sigmoid(node: Node) -> Expression:
    slope = float(node.attributes.get("alpha", 0.2))
    shift = float(node.attributes.get("beta", 0.5))
    if node.is_single(slope, 1 / 6) and shift == 0.5:
        return node.states.activated(node.value, "hardsigmoid")
    value = node.value.scaled(np.asarray(slope), shift)
    return maxima.clipped(node.states, value, 0.0, 1.0)


def _prelu(node: Node) -> Expression:
    slopes = np.asarray(node.constant(1), float)
    return maxima.leaky(node.states, node.value, slopes)


def _leaky_relu(node: Node) -> Any:
    slope = float(node.attributes.get("alpha", np.float32(0.01)))
    if node.is_single(slope, LEAKY_RELU_SLOPE):
        return node.states.activated(node.value, "leaky_relu")
    return maxima.leaky(node.states, node.value, np.asarray(slope))


def _dropout(node: Node) -> Expression:
    training = node.constant(2)
    if training is not None and bool(training):
        raise UnsupportedModelError("dropout that stays on in evaluation is random")
    return node.value


def _cast(node: Node) -> Expression:
    if node.attributes["to"] not in (1, 11):  # FLOAT, DOUBLE
        raise UnsupportedModelError("a conversion to another type than float or double")
    return node.value


ONNX_OPERATIONS: Final[Mapping[str, Operator]] = MappingProxyType(
    {
        "Add": _simple("add"),
        "Sub": _simple("sub"),
        "Mul": _simple("mul"),
        "Div": _simple("div"),
        "Neg": _simple("neg"),
        "Sum": _over_all("add"),
        "Max": _over_all("maximum"),
        "Min": _over_all("minimum"),
        "MatMul": _simple("matmul"),
        "Gemm": _gemm,
        "Conv": _conv,
        "BatchNormalization": _batch_normalization,
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "GlobalAveragePool": _global("mean"),
        "GlobalMaxPool": _global("amax"),
        "ReduceMean": _reduced("mean"),
        "ReduceSum": _reduced("sum"),
        "ReduceMax": _reduced("amax"),
        "ReduceMin": _reduced("amin"),
        "Relu": _simple("relu"),
        "LeakyRelu": _leaky_relu,
        "PRelu": _prelu,
        "Clip": _clip,
        "Tanh": _simple("tanh"),
        "Sigmoid": _simple("sigmoid"),
        "HardSigmoid": _hard_sigmoid,
        "Elu": lambda node: node.torch("elu", node.value, node.attributes.get("alpha", 1.0)),
        "Softplus": _simple("softplus"),
        "Softsign": _simple("softsign"),
        "Abs": _simple("abs"),
        "Atan": _simple("atan"),
        "Sin": _simple("sin"),
        **MOVEMENTS,
        "Concat": lambda node: node.torch("cat", node.inputs, int(node.attributes["axis"])),
        "Identity": lambda node: node.value,
        "Dropout": _dropout,
        "Cast": _cast,
    }
)
"""By the name of the operator in ONNX's own domain."""
