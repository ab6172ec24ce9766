"""A network in an ONNX file: read, run, and turned into an exact sparse implicit model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idl_cli.errors import DataError, MissingExtraError, UnsupportedModelError, file_refusal
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.network import check_same
from idl_cli.models.tracing.onnx_node import Node
from idl_cli.models.tracing.onnx_operators import ONNX_OPERATIONS


def _onnx() -> Any:
    try:
        import onnx
        import onnx.reference
    except ImportError as error:
        raise MissingExtraError(
            "an ONNX file needs the package onnx: pip install 'idl-cli[export]'"
        ) from error
    return onnx


class OnnxNetwork:
    """The graph of an ONNX file, run by onnxruntime, or by ONNX's own reference in float64.

    Args:
        path: of the file.
        dtype: to compute in, float32 or float64.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
        DataError: the file is damaged, or no model.
        UnsupportedModelError: the graph has not one input of numbers and one output.

    Attributes:
        input_shape: of one sample; None where the file leaves it open.
        batch: the number of samples that the file fixes; None where it does not.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        onnx = _onnx()
        refusal = file_refusal(path)
        if refusal is not None:
            raise DataError(f"{path}: {refusal}")
        try:
            self.model = onnx.load(str(path))
            onnx.checker.check_model(self.model)
        except Exception as error:  # protobuf, checker and files raise types of their own
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"{path}: damaged, or no ONNX model ({reason})") from error
        self.path, self.dtype = path, dtype
        graph = self.model.graph
        constants = {each.name for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise UnsupportedModelError(
                f"{path}: has {len(inputs)} inputs and {len(graph.output)} outputs; one of each "
                "can be converted"
            )
        self.input_name, self.output_name = inputs[0].name, graph.output[0].name
        dims = [
            each.dim_value if each.HasField("dim_value") else None
            for each in inputs[0].type.tensor_type.shape.dim
        ]
        known = [each for each in dims[1:] if each is not None]
        self.input_shape = tuple(known) if dims and len(known) == len(dims) - 1 else None
        self.batch = dims[0] if dims and dims[0] else None
        self.constants = {
            each.name: onnx.numpy_helper.to_array(each, str(path.parent))
            for each in graph.initializer
        }

    @property
    def bytes(self) -> int:
        """Memory of the constants."""
        return sum(each.nbytes for each in self.constants.values())

    @cached_property
    def _runner(self) -> Any:
        try:
            return self._made_runner(_onnx())
        except Exception as error:  # the runtime has types of its own
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"{self.path}: cannot be run ({reason})") from error

    def _made_runner(self, onnx: Any) -> Any:
        if self.dtype == torch.float64:
            return onnx.reference.ReferenceEvaluator(_in_double(onnx, self.model))
        if find_spec("onnxruntime") is None:
            return onnx.reference.ReferenceEvaluator(self.model)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=providers
        )

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (m, …) for inputs (m, *input_shape)."""
        size = self.batch or max(1, len(inputs))
        found = []
        for part in torch.split(inputs, size):
            short = size - len(part) if self.batch else 0
            fed = torch.cat([part, part[:1].expand(short, *part.shape[1:])])
            (output,) = self._runner.run(None, {self.input_name: fed.cpu().numpy()})
            found.append(torch.from_numpy(np.asarray(output))[: len(part)])
        return torch.cat(found).to(inputs)


def _in_double(onnx: Any, model: Any) -> Any:
    """The same graph with single numbers as double ones."""
    double = type(model)()
    double.CopyFrom(model)
    single, other = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

    def widened(tensor: Any) -> Any:
        return onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name
        )

    for tensor in double.graph.initializer:
        if tensor.data_type == single:
            tensor.CopyFrom(widened(tensor))
    for value in (*double.graph.input, *double.graph.output, *double.graph.value_info):
        if value.type.tensor_type.elem_type == single:
            value.type.tensor_type.elem_type = other
    for node in double.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == single:
                attribute.t.CopyFrom(widened(attribute.t))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = other
    return double


def from_onnx(network: OnnxNetwork, input_shape: Sequence[int]) -> SparseImplicitModel:
    """The exact implicit form of a network in an ONNX file: see ``from_network``.

    Args:
        network: that was read.
        input_shape: shape of one sample.

    Raises:
        UnsupportedModelError: an operator has no exact form; the message names it and its node.
    """
    onnx = _onnx()
    states = States(input_shape, network.dtype)
    known: dict[str, Any] = {"": None, **network.constants, network.input_name: states.input}
    graph = network.model.graph
    for proto in graph.node:
        inputs = [known[name] for name in proto.input]
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
        if not any(isinstance(each, Expression) for each in inputs):
            found = onnx.reference.ReferenceEvaluator(
                proto, opsets={each.domain: each.version for each in network.model.opset_import}
            ).run(None, {name: known[name] for name in proto.input if name})
        else:
            found = _applied(
                proto, Node(states, inputs, attributes, len(proto.output), network.batch)
            )
        known.update(zip(proto.output, found, strict=False))
    output = known[network.output_name]
    if not isinstance(output, Expression):
        raise UnsupportedModelError(f"{network.path}: its output does not depend on its input")
    model = states.model(output)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(3, *input_shape, generator=generator, dtype=torch.float64)
    check_same(network, model, sample.to(network.dtype))
    return model


def _applied(proto: Any, node: Node) -> list[Any]:
    operation = ONNX_OPERATIONS.get(proto.op_type) if proto.domain in ("", "ai.onnx") else None
    name = f"node {proto.name or proto.output[0]!r} ({proto.op_type})"
    if operation is None:
        raise UnsupportedModelError(
            f"{name} has no exact form: it is neither affine, nor an activation, nor a maximum"
        )
    try:
        found = operation(node)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{name} has no exact form: {error}") from error
    listed = found if isinstance(found, list) else [found]
    if len(listed) < len([each for each in proto.output if each]):
        raise UnsupportedModelError(f"{name}: of its {len(proto.output)} outputs one is known")
    return listed
