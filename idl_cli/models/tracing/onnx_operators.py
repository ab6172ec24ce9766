"""What ONNX's operators do to expressions: one entry an operator, all else is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from idl_cli.equilibrium.activations import LEAKY_RELU_SLOPE
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing import linear_maps, maxima
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.moves import SAMPLES, moved
from idl_cli.models.tracing.operations.table import OPERATIONS
from idl_cli.models.tracing.windows import Axis


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes:
        states: of the network so far.
        inputs: expressions, arrays, or None where one is left out.
        attributes: by name.
        outputs: how many it has.
        batch: samples that the file fixes; None where it does not.
    """

    states: States
    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    outputs: int
    batch: int | None

    @property
    def value(self) -> Expression:
        """The first input, which has to depend on the network's."""
        if not isinstance(self.inputs[0], Expression):
            raise UnsupportedModelError("its first input is a constant")
        return self.inputs[0]

    def constant(self, number: int, attribute: str = "") -> Any:
        """An input that has to be constant, or the attribute of older versions; None without."""
        found = self.inputs[number] if len(self.inputs) > number else None
        if isinstance(found, Expression):
            raise UnsupportedModelError(f"its input {number} depends on the network's input")
        return self.attributes.get(attribute) if found is None else found

    def is_single(self, attribute: float, number: float) -> bool:
        """Whether a model in single precision cannot tell an attribute, itself single, from it."""
        return self.states.dtype == torch.float32 and np.float32(number) == attribute

    def torch(self, name: str, *arguments: Any) -> Any:
        """What torch's operation of that name does."""
        return OPERATIONS[name](self.states, *arguments)


Operator = Callable[[Node], Any]


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


def _batch_shape(node: Node) -> tuple[int, ...]:
    return (SAMPLES, *node.value.shape)


def _reshape(node: Node) -> Any:
    target = [int(size) for size in node.constant(1, "shape")]
    shape = _batch_shape(node)
    if not node.attributes.get("allowzero"):
        target = [shape[i] if size == 0 else size for i, size in enumerate(target)]
    if node.batch is not None and target and target[0] == node.batch:
        target[0] = SAMPLES
    try:
        return moved(node.value, lambda numbers: numbers.reshape(target))
    except RuntimeError as error:
        raise UnsupportedModelError(
            f"samples of shape {node.value.shape} in the shape {target} of a batch"
        ) from error


def _flatten(node: Node) -> Expression:
    if int(node.attributes.get("axis", 1)) != 1:
        raise UnsupportedModelError("it flattens other axes than those of a sample")
    return node.value.reshaped([len(node.value.constant)])


def _move(operation: Callable[[torch.Tensor, Node], Any]) -> Operator:
    return lambda node: moved(node.value, lambda numbers: operation(numbers, node))


def _squeezed(numbers: torch.Tensor, node: Node) -> Any:
    axes = node.constant(1, "axes")
    if axes is None:
        raise UnsupportedModelError("it squeezes whatever axes have one entry")
    return numbers.squeeze(tuple(int(axis) for axis in axes))


def _unsqueezed(numbers: torch.Tensor, node: Node) -> Any:
    axes = [int(axis) for axis in node.constant(1, "axes")]
    final = numbers.dim() + len(axes)
    for axis in sorted(axis % final for axis in axes):
        numbers = numbers.unsqueeze(axis)
    return numbers


def _sliced(numbers: torch.Tensor, node: Node) -> Any:
    starts, ends = node.constant(1, "starts"), node.constant(2, "ends")
    axes, steps = node.constant(3, "axes"), node.constant(4)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    array = numbers.numpy()
    index = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -array.shape[int(axis)] else int(end)
        index[int(axis)] = slice(int(start), stop, int(step))
    return torch.from_numpy(array[tuple(index)].copy())


def _split(node: Node) -> Any:
    axis = int(node.attributes.get("axis", 0))
    sizes = node.constant(1, "split")
    if sizes is None:
        longest = -(-_batch_shape(node)[axis] // node.outputs)  # the last part may be shorter
        return moved(node.value, lambda numbers: torch.split(numbers, longest, axis))
    listed = [int(size) for size in sizes]
    return moved(node.value, lambda numbers: torch.split(numbers, listed, axis))


def _gathered(numbers: torch.Tensor, node: Node) -> Any:
    axis = int(node.attributes.get("axis", 0))
    return torch.from_numpy(np.take(numbers.numpy(), node.constant(1), axis=axis))


def _pad(node: Node) -> Any:
    mode = node.attributes.get("mode", b"constant").decode()
    fill = node.constant(2, "value")
    fill = 0.0 if fill is None or mode != "constant" else float(np.ravel(fill)[0])
    pads = [int(each) for each in node.constant(1, "pads")]
    axes = node.constant(3)
    rank = len(pads) // 2
    widths = [(0, 0)] * (len(node.value.shape) + 1)
    for number, axis in enumerate(range(rank) if axes is None else axes):
        widths[int(axis)] = (pads[number], pads[rank + number])
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes or min(pads, default=0) < 0:
        raise UnsupportedModelError(f"padding {pads} in the mode {mode}")
    kind: Any = modes[mode]
    return moved(
        node.value, lambda numbers: torch.from_numpy(np.pad(numbers.numpy(), widths, kind)), fill
    )


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
        "Reshape": _reshape,
        "Flatten": _flatten,
        "Squeeze": _move(_squeezed),
        "Unsqueeze": _move(_unsqueezed),
        "Transpose": _move(lambda numbers, node: numbers.permute(*node.attributes["perm"])),
        "Slice": _move(_sliced),
        "Split": _split,
        "Gather": _move(_gathered),
        "Pad": _pad,
        "Concat": lambda node: node.torch("cat", node.inputs, int(node.attributes["axis"])),
        "Identity": lambda node: node.value,
        "Dropout": _dropout,
        "Cast": _cast,
        "Shape": lambda node: [np.array(_batch_shape(node))],
    }
)
"""By the name of the operator in ONNX's own domain."""
