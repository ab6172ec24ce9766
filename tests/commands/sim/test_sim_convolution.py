"""``idl sim trainer.structure=convolution``: kernels of a CNN, through all that takes a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idl_cli import load_model
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
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


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (("trainer.skip_connections=true",), "each layer reads the one before"),
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
