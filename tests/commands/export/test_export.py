"""``idl export``: folders that are whole, a card, and sentences for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from idl_cli.data.images.digits import digits
from idl_cli.models.explicit import MLP
from idl_cli.models.implicit import ImplicitModel
from tests.conftest import Done, IdlHere
from tests.export.makers import implicit, make_run

pytest.importorskip("onnxruntime")

OF_RUN = {"name": "digits", "train_samples": 60, "test_samples": 40}
Export = Callable[..., Done]


@pytest.fixture
def export(tmp_path: Path, idl_here: IdlHere) -> Export:
    """``export(model, *words)``: a run of the model on digits, exported."""

    def run(model: ImplicitModel | MLP, *words: str) -> Done:
        data = digits(train_samples=60, test_samples=40)
        explicit = isinstance(model, MLP)
        make_run(
            tmp_path / "run", model, data.task, data.preprocessing, dataset=OF_RUN,
            metrics={"test_accuracy": 0.25},
            name="mlp" if explicit else "implicit", group="teacher" if explicit else "model",
        )  # fmt: skip
        return idl_here("export", "run=run", "latency=false", "hydra.run.dir=made", *words)

    return run


def summary(folder: Path) -> Any:
    return json.loads((folder / "made" / "summary.json").read_text())


def test_a_folder_with_a_card(tmp_path: Path, export: Export) -> None:
    done = export(implicit(64, 10, 7), "output=out", "license=apache-2.0")
    assert done.status == 0, done.errors
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"README.md", "model.onnx"}
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "apache-2.0"
    assert card["pipeline_tag"] == "image-classification"
    (result,) = card["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.25
    for words in ("## How to load", "onnxruntime", "test_accuracy | 0.25", "40", "0, 1, 2, 3"):
        assert words in text
    found = summary(tmp_path)
    size = (tmp_path / "out" / "model.onnx").stat().st_size
    assert found["metrics"]["bytes"] == found["export"]["files"]["model.onnx"] == size
    assert found["metrics"]["other_classes"] == 0
    assert found["metrics"]["difference"] <= found["export"]["difference_bound"]
    assert found["export"]["bound"]["steps"] > 0
    assert not list(tmp_path.glob(".idl-export-*"))


def test_too_few_steps_are_told(export: Export) -> None:
    model = implicit(64, 10, 7)
    with torch.no_grad():
        model.C.mul_(30)
    done = export(model, "format.steps=1")
    assert done.status == 0, done.errors
    assert "format.tolerance=0.0001 is not reached" in " ".join(done.errors.split())


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("format=onyx",), 2, "did you mean onnx"),
        (("format.tolerance=0",), 2, "format.tolerance=0"),
        (("output=run",), 2, "choose a new or empty folder"),
        (("output=no/where",), 2, "no is no folder"),
        (("license=My Licence",), 2, "an identifier of the hub"),
        (("dataset=argmax",), 2, "samples of shape"),
    ],
)
def test_mistakes_are_sentences(
    export: Export, words: tuple[str, ...], status: int, sentence: str
) -> None:
    done = export(implicit(64, 10, 5), *words)
    assert done.status == status
    assert sentence in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.filterwarnings("ignore:well_posedness")
def test_a_model_without_a_proof_is_refused(tmp_path: Path, export: Export) -> None:
    model = implicit(64, 10, 5, well_posedness="none")
    with torch.no_grad():
        model.A.fill_(0.5)
    done = export(model)
    assert done.status == 2
    assert "give format.steps=N" in done.errors
    assert not (tmp_path / "made" / "model").exists()
