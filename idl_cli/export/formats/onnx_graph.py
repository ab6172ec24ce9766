"""An ONNX graph that is put together step by step, its sparse weights packed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from idl_cli.data.files.npy_format import Array
from idl_cli.errors import UnsupportedModelError

_GAPS: Final = (np.uint8, np.uint16)
_OVERHEAD: Final = 512  # bytes of the nodes that unpack


class Graph:
    """Nodes and weights; every method adds some and returns the name of what they compute.

    Args:
        dtype: of the weights and of what is computed with them.
        prefix: of the names, so that those of a graph within another are its own.
        outer: the graph that this one is within, which holds the weights of both; None for none.
    """

    def __init__(self, dtype: np.dtype[Any], prefix: str = "", outer: Graph | None = None) -> None:
        self.dtype, self._outer = dtype, outer
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._prefix, self._count = prefix, 0
        self._constants: dict[bytes, str] = {}

    def add(
        self, kind: str, *inputs: str, attributes: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """Add a node of one output."""
        name = self.fresh(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def fresh(self, word: str) -> str:
        """A name that is not taken."""
        self._count += 1
        return f"{self._prefix}{word.lower()}_{self._count}"

    def constant(self, values: Array | Sequence[int], name: str | None = None) -> str:
        """A constant as it is; whole numbers are those of shapes, axes and positions."""
        array = np.asarray(values)
        if self._outer is not None:
            return self._outer.constant(array, name and f"{self._prefix}{name}")
        if name is None:
            key = array.tobytes() + str((array.dtype, array.shape)).encode()
            if key in self._constants:
                return self._constants[key]
            name = self._constants[key] = self.fresh("constant")
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def number(self, value: float) -> str:
        """A constant number in the model's type."""
        return self.constant(np.array(value, dtype=self.dtype))

    def weight(self, values: Array, name: str) -> str:
        """A matrix; of one with many zeros the others and the gaps between them alone.

        What unpacks them has constant inputs: a runtime does it once, as it loads the file.
        """
        if self._outer is not None:
            return self._outer.weight(values, f"{self._prefix}{name}")
        values = np.ascontiguousarray(values, dtype=self.dtype)
        packed = _packed(values)
        if packed is None:
            return self.constant(values, name)
        entries, gaps = packed
        stored = self.constant(entries, f"{name}.values")
        steps = self.constant(gaps, f"{name}.gaps")
        places = self.add(
            "CumSum",
            self.add("Cast", steps, attributes={"to": TensorProto.INT64}),
            self.constant(np.array(0)),
        )
        zero = helper.make_tensor("zero", _kind(self.dtype), [1], [0.0])
        empty = self.add(
            "ConstantOfShape", self.constant([values.size]), attributes={"value": zero}
        )
        flat = self.add("ScatterElements", empty, places, stored, attributes={"axis": 0})
        return self.add("Reshape", flat, self.constant(list(values.shape)))

    def affine(self, x: str, weight: Array, bias: Array | str | None, name: str) -> str:
        """X Wᵀ + bias of every sample, the bias a constant or something computed."""
        stored = self.weight(weight, name)
        inputs = [x, stored]
        if bias is not None:
            inputs.append(bias if isinstance(bias, str) else self.constant(bias, f"{name}.bias"))
        return self.add("Gemm", *inputs, attributes={"transB": 1})

    def activation(self, name: str, z: str) -> str:
        """φ(z)."""
        simple = {
            "relu": ("Relu", {}),
            "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
            "tanh": ("Tanh", {}),
            "sigmoid": ("Sigmoid", {}),
            "elu": ("Elu", {"alpha": 1.0}),
            "selu": ("Selu", {}),
            "softplus": ("Softplus", {}),
            "softsign": ("Softsign", {}),
            "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
            "softshrink": ("Shrink", {"lambd": 0.5, "bias": 0.5}),
            "arctan": ("Atan", {}),
            "sin": ("Sin", {}),
            "abs": ("Abs", {}),
            "hardswish": ("HardSwish", {}),
        }
        if name in simple:
            kind, attributes = simple[name]
            return self.add(kind, z, attributes=attributes)
        if name == "identity":
            return z
        if name in ("hardtanh", "relu6"):
            low, high = (-1.0, 1.0) if name == "hardtanh" else (0.0, 6.0)
            return self.add("Clip", z, self.number(low), self.number(high))
        if name == "logsigmoid":
            return self.add("Neg", self.add("Softplus", self.add("Neg", z)))
        if name == "silu":
            return self.add("Mul", z, self.add("Sigmoid", z))
        if name == "mish":
            return self.add("Mul", z, self.add("Tanh", self.add("Softplus", z)))
        if name == "gelu":
            erf = self.add("Erf", self.add("Mul", z, self.number(math.sqrt(0.5))))
            half = self.add("Mul", z, self.number(0.5))
            return self.add("Mul", half, self.add("Add", erf, self.number(1.0)))
        raise UnsupportedModelError(f"activation={name}: has no ONNX form here")

    def cast(self, x: str, dtype: np.dtype[Any]) -> str:
        """The same numbers in another type."""
        return self.add("Cast", x, attributes={"to": _kind(dtype)})


def to_model(
    graph: Graph,
    inputs: Sequence[tuple[str, np.dtype[Any], Sequence[str | int]]],
    outputs: Sequence[tuple[str, np.dtype[Any], Sequence[str | int]]],
    *,
    opset: int,
    metadata: dict[str, str],
) -> Any:
    """The finished model, checked for its form.

    Args:
        graph: of all nodes.
        inputs: name, type and shape of each; a text is a dimension that may vary.
        outputs: likewise.
        opset: version of the operators.
        metadata: texts that travel in the file.
    """
    values = [
        [
            helper.make_tensor_value_info(name, _kind(dtype), list(shape))
            for name, dtype, shape in each
        ]
        for each in (inputs, outputs)
    ]
    made = helper.make_graph(graph.nodes, "idl", *values, graph.initializers)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,  # what runtimes read that know opset 17
        producer_name="idl",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def _packed(values: Array) -> tuple[Array, Array] | None:
    """Entries and the gaps between them, where they take less room than all of the matrix.

    The first gap is the place of the first entry. Where a gap is longer than its type holds, zeros
    are entries too.
    """
    flat = values.reshape(-1)
    places = np.flatnonzero(flat)
    best: tuple[Array, Array] | None = None
    least = flat.nbytes - _OVERHEAD
    between = np.diff(places, prepend=0)
    for kind in _GAPS:
        longest = int(np.iinfo(kind).max)
        extra = np.maximum(between - 1, 0) // longest
        ends = np.cumsum(extra + 1) - 1
        steps = np.full(int((extra + 1).sum()), longest)
        steps[ends] = between - extra * longest
        size = len(steps) * (flat.itemsize + np.dtype(kind).itemsize)
        if size < least:
            least, best = size, (flat[np.cumsum(steps)], steps.astype(kind))
    return best


def _kind(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
