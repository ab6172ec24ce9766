"""``idl sim trainer.structure=convolution``: kernels of a CNN, through all that takes a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from idl_cli import load_model
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.resnet import ResNet20
from tests.conftest import IdlHere

QUICK = (
    "teacher=cnn",
    "teacher.epochs=4",
    "teacher.lr=1e-2",
    "dataset.train_samples=400",
    "dataset.test_samples=100",
    "trainer.structure=convolution",
    "threads=1",
)


@pytest.mark.slow
def test_kernels_go_where_models_go(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        *QUICK,
        "trainer.nonzeros=0.3",
        "trainer.refine_epochs=3",
        "trainer.finetune_epochs=1",
        "trainer.diagnose_rows=true",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    assert "one a channel: 4, 8, 32, 10" in done.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    sim, model = summary["sim"], load_model(tmp_path / "run")
    assert isinstance(model, FeedforwardConv)
    teacher = load_model(tmp_path / "run" / "teacher")
    total = sum(p.numel() for p in teacher.parameters())
    assert sim["teacher_parameters"] == sum(p.numel() for p in model.parameters()) == total
    assert sum(int((p != 0).sum()) for p in model.parameters()) <= round(0.3 * total)
    assert sim["structure"] == "convolution"
    assert any(".places" in name for name in load_file(tmp_path / "run" / "model.safetensors"))
    rows = json.loads((tmp_path / "run" / "rows.json").read_text())
    assert [len(rows["ab"]), len(rows["cd"])] == [4 + 8 + 32, 10]
    assert [rows["ab"][0]["block"], rows["ab"][-1]["block"]] == ["layers.8", "layers.3"]

    for arguments in (
        ("eval", "run=run", "hydra.run.dir=eval"),
        ("export", "run=run", "format=safetensors", "hydra.run.dir=export"),
        ("convert", "teacher=run", "teacher.run=run", "hydra.run.dir=convert"),
        ("certify", "run=run", "samples=3", "hydra.run.dir=certify"),
    ):
        done = idl_here(*arguments)
        assert done.status == 0, (arguments, done.errors)
    again = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert again["metrics"]["test_accuracy"] == summary["metrics"]["test_accuracy"]
    inputs = torch.rand(5, 8, 8)
    torch.testing.assert_close(
        load_model(tmp_path / "convert")(inputs), model(inputs), rtol=0, atol=1e-5
    )

    done = idl_here(
        "train",
        "model=feedforward_conv",
        "model.init_run=run",
        "trainer.keep_sparsity=true",
        "trainer.epochs=1",
        "dataset.train_samples=100",
        "dataset.test_samples=50",
        "hydra.run.dir=on",
    )
    assert done.status == 0, done.errors
    trained = load_model(tmp_path / "on")
    for before, after in zip(model.weights, trained.weights, strict=True):
        assert not after.weight[before.weight == 0].any()


def test_penalties_are_chosen_and_an_estimate_is_given(idl_here: IdlHere, tmp_path: Path) -> None:
    grid = ("trainer.select_lambda=validation", "trainer.lambda_grid=[1e-2,1e-4]")
    done = idl_here("sim", *QUICK, *grid, "hydra.run.dir=run")
    assert done.status == 0, done.errors
    sim = json.loads((tmp_path / "run" / "summary.json").read_text())["sim"]
    assert sim["ab"]["status"] == sim["cd"]["status"] == "optimal"
    assert [each["lambda_z"] for each in sim["candidates"]] == [1e-2, 1e-4]
    done = idl_here("sim", *QUICK, "trainer.dry_run=true", "hydra.run.dir=dry")
    assert done.status == 0, done.errors
    dry = json.loads((tmp_path / "dry" / "summary.json").read_text())["dry_run"]
    assert (dry["states"], dry["features"]) == (4 * 16 + 8 * 4 + 32, 37)


@pytest.mark.slow
def test_published_weights_of_a_residual_network_become_sparse(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = ResNet20((3, 8, 8), 10).train()
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)
    network((images / 255 - 0.5) / 0.5)  # statistics for its normalisation
    weights = {name: each.numpy() for name, each in network.state_dict().items()}
    np.savez(tmp_path / "weights.npz", **weights)
    np.savez(tmp_path / "data.npz", inputs=images.numpy(), targets=torch.arange(60).numpy() % 10)
    done = idl_here(
        "sim",
        "dataset=arrays",
        "dataset.file=data.npz",
        "teacher=resnet20",
        "teacher.file=weights.npz",
        "teacher.mean=[0.5,0.5,0.5]",
        "teacher.std=[0.5,0.5,0.5]",
        "trainer.structure=convolution",
        "trainer.nonzeros=0.3",
        "trainer.refine_epochs=0",
        "trainer.regenerate_states=false",
        "threads=1",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    model = load_model(tmp_path / "run")
    assert isinstance(model, FeedforwardConv)
    assert not model.graph.is_chain
    total = sum(p.numel() for p in network.parameters())
    assert sum(int((p != 0).sum()) for p in model.parameters()) <= round(0.3 * total)
    done = idl_here("eval", "run=run", "hydra.run.dir=eval")
    assert done.status == 0, done.errors
    first, again = (
        json.loads((tmp_path / name / "summary.json").read_text())["metrics"]["test_accuracy"]
        for name in ("run", "eval")
    )
    assert first == again
    done = idl_here("export", "run=run", "format=onnx", "hydra.run.dir=export")
    assert done.status != 0
    assert "with poolings or sums of maps" in done.errors
    done = idl_here("export", "run=run", "format=torch_export", "hydra.run.dir=export2")
    assert done.status == 0, done.errors


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (("trainer.skip_connections=true",), "each layer reads what the teacher"),
        (("trainer.save_statistics=true",), "records each layer's patches anew"),
        (("teacher.states=[layers.3]",), "needs the states of all layers"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    idl_here: IdlHere, request_: tuple[str, ...], said: str
) -> None:
    done = idl_here("sim", *QUICK, *request_)
    assert done.status != 0
    assert said in done.errors
