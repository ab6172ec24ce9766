"""ONNX's operators that compute nothing: values are placed anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression
from idl_cli.models.tracing.moves import SAMPLES, moved
from idl_cli.models.tracing.onnx_node import Node, Operator


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
    if mode not in ("constant", "reflect", "edge", "wrap") or min(pads, default=0) < 0:
        raise UnsupportedModelError(f"padding {pads} in the mode {mode}")
    kind: Any = mode
    return moved(
        node.value, lambda numbers: torch.from_numpy(np.pad(numbers.numpy(), widths, kind)), fill
    )


MOVEMENTS: Final[Mapping[str, Operator]] = MappingProxyType(
    {
        "Reshape": _reshape,
        "Flatten": _flatten,
        "Squeeze": _move(_squeezed),
        "Unsqueeze": _move(_unsqueezed),
        "Transpose": _move(lambda numbers, node: numbers.permute(*node.attributes["perm"])),
        "Slice": _move(_sliced),
        "Split": _split,
        "Gather": _move(_gathered),
        "Pad": _pad,
        "Shape": lambda node: [np.array(_batch_shape(node))],
    }
)
"""By the name of the operator."""
