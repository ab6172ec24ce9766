"""``idl convert`` from the command line: every source, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from idl_cli import load_model
from idl_cli.models.explicit import CNN
from idl_cli.models.sparse.model import SparseImplicitModel
from tests.conftest import IdlHere

DATA = ("dataset=digits", "dataset.train_samples=150", "dataset.test_samples=60")


def _summary(path: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((Path(path) / "summary.json").read_text())
    return found


def test_a_teacher_is_trained_converted_evaluated_and_converted_again(
    idl_here: IdlHere,
) -> None:
    """The model of a conversion is a run's like any other."""
    done = idl_here(
        "convert", "teacher=mlp", "teacher.epochs=2", *DATA, "hydra.run.dir=one", "seed=3"
    )
    assert done.status == 0, done.errors
    assert "states n" in done.output
    section = _summary("one")["convert"]
    assert section["states"] == 112
    assert section["relative_difference"] <= 1e-5
    assert section["agreement"] == 1
    model = load_model("one")
    assert isinstance(model, SparseImplicitModel)
    assert sum(section["nonzeros"].values()) == sum(model.nonzeros.values())
    assert idl_here("eval", "run=one", "hydra.run.dir=measured").status == 0
    metrics = _summary("measured")["metrics"]
    assert metrics["test_accuracy"] == _summary("one")["metrics"]["test_accuracy"]
    # The run's own data set and seed, its model converted again and rescaled.
    done = idl_here("convert", "teacher=run", "teacher.run=one", "kappa=0.5", "hydra.run.dir=two")
    assert done.status == 0, done.errors
    again = _summary("two")
    assert again["seed"] == 3
    assert 0.1 < again["convert"]["inf_norm_A"] <= 0.5
    assert again["metrics"]["test_accuracy"] == metrics["test_accuracy"]
    # Trained on, its zeros kept.
    done = idl_here(
        "train", "model=sparse_implicit", "model.init_run=one", *DATA, "trainer.epochs=1",
        "hydra.run.dir=tuned",
    )  # fmt: skip
    assert done.status == 0, done.errors
    tuned = load_model("tuned")
    assert torch.equal(tuned.A.indices, model.A.indices)
    assert not torch.equal(tuned.A.stored, model.A.stored)


def test_weights_of_a_known_architecture(idl_here: IdlHere) -> None:
    torch.manual_seed(0)
    network = CNN((1, 8, 8), 10, channels=(2, 3), hidden_dim=5).double()
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    np.savez("w.npz", **arrays)
    ask = ("convert", "teacher=cnn", "teacher.file=w.npz", "teacher.channels=[2,3]", *DATA)
    done = idl_here(
        *ask, "teacher.hidden_dim=5", "teacher.mean=[0.2]", "teacher.std=[0.5]", "dtype=float64",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert done.status == 0, done.errors
    assert _summary("run")["convert"]["relative_difference"] <= 1e-12
    inputs = torch.randn(4, 64, dtype=torch.float64)
    torch.testing.assert_close(load_model("run")(inputs), network(inputs), rtol=0, atol=1e-13)
    wrong = idl_here(*ask, "teacher.hidden_dim=6", "teacher.lr=0.1")
    assert wrong.status == 2
    assert "layers.7.weight has shape [5, 12] instead of [6, 12]" in wrong.errors.replace("\n", " ")
    assert "teacher.lr: has no effect beside teacher.file" in wrong.errors.replace("\n", " ")


def test_an_onnx_file_with_and_without_data(idl_here: IdlHere) -> None:
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(size=(4, 1, 3, 3)),
        "w2": generator.normal(size=(10, 4 * 3 * 3)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w2"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 1, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 10))],
        [numpy_helper.from_array(each.astype(np.float32), name) for name, each in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "network.onnx")
    for more in ((), (*DATA, "dtype=float64")):
        done = idl_here("convert", "onnx=network.onnx", f"hydra.run.dir=run{len(more)}", *more)
        assert done.status == 0, done.errors
        section = _summary(f"run{len(more)}")["convert"]
        assert section["relative_difference"] <= (1e-12 if more else 1e-5)
    done = idl_here("eval", "run=run0", *DATA, "hydra.run.dir=measured")
    assert done.status == 0, done.errors
    assert _summary("measured")["metrics"].keys() >= {"test_accuracy"}
    wrong = idl_here("convert", "onnx=network.onnx", "dataset=argmax")
    assert wrong.status == 2
    assert "onnx=network.onnx: takes samples of shape [1, 8, 8]" in wrong.errors.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "teacher, onnx: give one of them"),
        (("teacher=cnn",), "dataset: needed beside teacher=cnn"),
        (("teacher=mlp", "dataset=digits", "teacher.mean=[0.5]", "teacher.std=[1]"), "with file"),
        (("teacher=mlp", "dataset=digits", "teacher.states=[layers.2]"), "keeps all states"),
        (("teacher=run", "teacher.run=none"), "teacher.run=none: no such directory"),
        (("onnx=none.onnx",), "onnx=none.onnx: no such file"),
        (("teacher=mlp", "dataset=digits", "kappa=1.5"), "kappa=1.5"),
        (("teacher=mlp", "dataset=digits", "model=implicit"), "always makes a sparse implicit"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(
    idl_here: IdlHere, arguments: tuple[str, ...], message: str
) -> None:
    done = idl_here("convert", *arguments)
    assert done.status == 2
    assert message in done.errors.replace("\n", " ")
