"""ONNX files of other tools: the same predictions, and operators without exact form by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from idl_cli.errors import DataError, UnsupportedModelError
from idl_cli.models.tracing.onnx_network import OnnxNetwork, from_onnx


def _file(
    path: Path,
    nodes: list[Any],
    constants: dict[str, Any],
    shape: tuple[Any, ...] = ("N", 2, 8, 7),
    outputs: tuple[Any, ...] = ("N", "q"),
) -> Path:
    """A file whose graph goes from x to y."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def _single(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _network(path: Path) -> Path:
    """Every family of operators once, with attributes that are not their defaults."""
    make = helper.make_node
    nodes = [
        make(
            "Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 0, 2, 1], strides=[1, 2], dilations=[2, 1]
        ),
        make("BatchNormalization", ["c1", "gain", "shift", "mean", "variance"], ["n1"]),
        make("Relu", ["n1"], ["r1"], name="first"),
        make("MaxPool", ["r1"], ["m1"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
        make("Conv", ["m1", "w2"], ["c2"], group=2, auto_pad="SAME_LOWER"),
        make("LeakyRelu", ["c2"], ["l2"], alpha=0.2),
        make("AveragePool", ["l2"], ["a2"], kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
        make("GlobalAveragePool", ["l2"], ["g2"]),
        make("Add", ["a2", "g2"], ["s2"]),
        make("Clip", ["s2", "low", "high"], ["k2"]),
        make("Split", ["k2"], ["left", "right"], axis=1),
        make("Max", ["left", "right"], ["larger"]),
        make("Concat", ["larger", "right"], ["joined"], axis=1),
        make("Shape", ["joined"], ["sizes"]),
        make("Gather", ["sizes", "zero"], ["batch"]),
        make("Concat", ["batch", "rest"], ["target"], axis=0),
        make("Reshape", ["joined", "target"], ["flat"]),
        make("Dropout", ["flat"], ["kept"]),
        make("Slice", ["kept", "begin", "end", "axis"], ["part"]),
        make("Gemm", ["part", "w3", "b3"], ["y"], transB=1, alpha=0.5, beta=2.0),
    ]
    constants = {
        "w1": _single(4, 2, 3, 2),
        "b1": _single(4),
        "gain": _single(4),
        "shift": _single(4),
        "mean": _single(4),
        "variance": np.abs(_single(4)) + 0.5,
        "w2": _single(4, 2, 2, 2),
        "low": np.float32(-0.7),
        "high": np.float32(0.9),
        "zero": np.array([0]),
        "rest": np.array([-1]),
        "begin": np.array([1]),
        "end": np.array([61]),
        "axis": np.array([1]),
        "w3": _single(3, 60),
        "b3": _single(3),
    }
    return _file(path, nodes, constants)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_predictions_are_those_of_the_file(
    tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    network = OnnxNetwork(_network(tmp_path / "network.onnx"), dtype)
    assert network.input_shape == (2, 8, 7)
    model = from_onnx(network, (2, 8, 7))
    inputs = torch.randn(5, 2, 8, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    expected = network(inputs)
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        model(inputs).detach(), expected, rtol=0, atol=tolerance * max(1.0, scale)
    )


def test_a_file_that_torch_wrote_for_one_sample(tmp_path: Path) -> None:
    """A number of samples that the file fixes holds for no model of ours."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).eval()
    file = tmp_path / "torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(network, (torch.zeros(1, 1, 8, 8),), str(file), dynamo=False)
    found = OnnxNetwork(file, torch.float32)
    assert found.batch == 1
    inputs = torch.randn(7, 1, 8, 8)
    torch.testing.assert_close(found(inputs), network(inputs), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        from_onnx(found, (1, 8, 8))(inputs), network(inputs), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Softmax", ["r"], ["y"], name="last"), r"'last' \(Softmax\)"),
        (helper.make_node("Mul", ["r", "r"], ["y"]), r"'y' \(Mul\).*both depend"),
        (helper.make_node("Flatten", ["r"], ["y"], axis=2), "Flatten.*flattens other axes"),
        (helper.make_node("LayerNormalization", ["r", "g"], ["y"]), "LayerNormalization"),
        (helper.make_node("Transpose", ["r"], ["y"], perm=[1, 0, 2, 3]), "Transpose.*samples"),
        (helper.make_node("ReduceMean", ["r"], ["y"]), "ReduceMean.*axis of the samples"),
        (helper.make_node("Cast", ["r"], ["y"], to=TensorProto.INT64), "Cast.*conversion"),
    ],
)
def test_operators_without_exact_form_are_refused_by_name(
    tmp_path: Path, node: Any, message: str
) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), node]
    file = _file(tmp_path / "network.onnx", nodes, {"g": _single(7)}, outputs=())
    with pytest.raises((UnsupportedModelError, DataError), match=message):
        from_onnx(OnnxNetwork(file, torch.float32), (2, 8, 7))


def test_what_is_no_onnx_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match=r"text\.onnx: damaged"):
        OnnxNetwork(tmp_path / "text.onnx", torch.float32)
    with pytest.raises(DataError, match="directory"):
        OnnxNetwork(tmp_path, torch.float32)
