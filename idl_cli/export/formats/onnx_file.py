"""``format=onnx``: one file that any ONNX runtime reads, from raw samples to outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.export.equations import Implicit, Layers
from idl_cli.export.error_bound import cell_steps
from idl_cli.export.formats.onnx_graph import Graph, to_model
from idl_cli.export.formats.onnx_model import (
    changes_of,
    from_changes,
    implicit_nodes,
    input_nodes,
    layer_nodes,
    recurrent_nodes,
)
from idl_cli.export.options import OnnxOptions
from idl_cli.run.files import write_atomic

FILE = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class OnnxFormat(OnnxOptions, Format):
    """Writes ``model.onnx``; options as in ``configs/format/onnx.yaml``."""

    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Write the file.

        The input is ``input`` (N, *shape), raw samples as they are stored; the output ``logits``
        (N, q), or ``prediction`` (N, q) in the targets' own unit.

        Raises:
            UnsupportedModelError: the model has no such form.
        """
        bound = deployment.bound(
            tolerance=self.tolerance, steps=self.steps, by_samples=self.bound == "data"
        )
        equations, changes = deployment.equations
        dtype = np.dtype(str(deployment.run.dtype).removeprefix("torch."))
        graph = Graph(dtype)
        inputs = input_nodes(graph, deployment, "input")
        steps, read = deployment.task.input_shape[0], inputs
        if changes is not None:
            read = changes_of(graph, inputs, changes, steps)
        if isinstance(equations, Implicit):
            assert bound is not None
            tolerance = self.tolerance if self.loop and equations.blocks is None else None
            outputs = implicit_nodes(graph, equations, read, bound, tolerance)
            if tolerance is not None:
                bound = bound.stopping_by(tolerance)
        elif isinstance(equations, Layers):
            outputs = layer_nodes(graph, equations, read)
        else:
            steps_of = cell_steps(equations, self.tolerance, self.steps)
            outputs = recurrent_nodes(graph, equations, read, steps_of, self.tolerance)
        if changes is not None:
            outputs = from_changes(graph, inputs, outputs, changes, steps)
        scaling, name, kind = deployment.task.target_scaling, "logits", dtype
        if deployment.task.kind == "regression":
            name = "prediction"
        if scaling is not None:
            kind = np.dtype(np.float64)
            outputs = graph.cast(outputs, kind) if dtype != kind else outputs
            outputs = graph.add("Mul", outputs, graph.constant(np.array(scaling.std)))
            outputs = graph.add("Add", outputs, graph.constant(np.array(scaling.mean)))
        graph.nodes.append(_renamed(outputs, name))
        model = to_model(
            graph,
            [("input", deployment.raw_dtype, ["N", *deployment.task.input_shape])],
            [(name, kind, ["N", deployment.task.output_dim])],
            opset=self.opset,
            metadata={
                "class_names": json.dumps(deployment.class_names, ensure_ascii=False),
                "weights": deployment.weights_in_words,
                **({} if bound is None else {"bound": json.dumps(vars(bound))}),
            },
        )
        write_atomic(folder / FILE, model.SerializeToString())
        session = _session(folder / FILE)
        shape = " × ".join(map(str, ("N", *deployment.task.input_shape)))
        return Written(
            runtime=lambda raw: np.asarray(session.run([name], {"input": raw})[0]),
            bound=bound,
            load=_LOAD.format(name=name, shape=shape, dtype=deployment.raw_dtype),
            needs=("onnxruntime",),
            notes=(f"The file is of opset {self.opset}, and holds sparse weights packed.",),
        )


_LOAD = """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
# samples: {shape}, {dtype}, as they are stored: the preprocessing is in the file
(outputs,) = session.run(["{name}"], {{"input": samples}})
"""


def _session(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no base but this
        raise UnsupportedModelError(
            f"{file.name}: ONNX Runtime {onnxruntime.__version__} does not take it ({error})"
        ) from error


def _renamed(name: str, new: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [name], [new])
