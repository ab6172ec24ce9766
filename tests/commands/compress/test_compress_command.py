"""``idl compress`` from the command line: one table, and a run like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from idl_cli import load_model
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.model import SparseImplicitModel
from tests.conftest import IdlHere

DATA = ("dataset=digits", "dataset.train_samples=150", "dataset.test_samples=60")


def _summary(path: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((Path(path) / "summary.json").read_text())
    return found


def _check_stages(path: str, labels: list[str]) -> list[Mapping[str, Any]]:
    stages: list[Mapping[str, Any]] = _summary(path)["compress"]["stages"]
    assert [each["label"] for each in stages] == labels
    for each in stages:
        # Float32 outputs of two models of one function differ by rounding.
        assert each["largest_change"] <= each["proven_bound"] + 1e-4
        assert 0 <= each["proven_classes"] <= 1
    assert _summary(path)["metrics"]["test_accuracy"] == stages[-1]["figures"]["accuracy"]
    return stages


def test_a_model_that_feeds_back_on_itself(idl_here: IdlHere) -> None:
    train = ("train", *DATA, "model.hidden_dim=12", "trainer.epochs=2", "hydra.run.dir=run")
    assert idl_here(*train).status == 0
    done = idl_here(
        "compress", "run=run", "tolerance=0.05", "quantize=int8", "rank=2", "hydra.run.dir=small"
    )
    assert done.status == 0, done.errors
    assert "low rank plus sparse is for models that one sweep solves" in done.errors.replace(
        "\n", " "
    )
    stages = _check_stages("small", ["before", "exact", "± 0.05", "int8"])
    assert stages[2]["nonzeros"] < stages[1]["nonzeros"] <= stages[0]["nonzeros"]
    assert stages[2]["proven_bound"] <= 0.05 * (1 + 1e-3)
    assert stages[3]["stored_bytes"] < 0.6 * stages[1]["stored_bytes"]
    model, original = load_model("small"), load_model("run")
    assert isinstance(model, ImplicitModel)
    assert model.inf_norm_A() <= original.inf_norm_A() * (1 + 1e-6)
    assert idl_here("eval", "run=small", "hydra.run.dir=measured").status == 0
    assert (
        _summary("measured")["metrics"]["test_accuracy"]
        == (_summary("small")["metrics"]["test_accuracy"])
    )


def test_a_converted_network(idl_here: IdlHere) -> None:
    convert = ("convert", "teacher=mlp", "teacher.epochs=2", *DATA, "hydra.run.dir=run")
    assert idl_here(*convert).status == 0
    done = idl_here(
        "compress", "run=run", "rank=3", "tolerance=1", "quantize=int8", "hydra.run.dir=small"
    )
    assert done.status == 0, done.errors
    stages = _check_stages("small", ["before", "exact", "rank 3", "± 1", "int8"])
    assert stages[2]["states"] > stages[1]["states"]
    assert stages[4]["stored_bytes"] < stages[3]["stored_bytes"]
    model = load_model("small")
    assert isinstance(model, SparseImplicitModel)
    assert model.A.codes.dtype == torch.int8
    # Without quantize=int8 the weights of 8 bits are numbers like any other again.
    done = idl_here("compress", "run=small", "tolerance=0", "hydra.run.dir=same")
    assert done.status == 0, done.errors
    assert "the model takes" in done.errors
    assert [each["label"] for each in _summary("same")["compress"]["stages"]] == ["before", "exact"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run=none",), "run=none: no such directory"),
        (("run=run", "tolerance=-1"), "tolerance=-1"),
        (("run=run", "quantize=int4"), "quantize=int4: must be one of none, int8"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(
    idl_here: IdlHere, arguments: tuple[str, ...], message: str
) -> None:
    Path("run").mkdir()
    done = idl_here("compress", *arguments)
    assert done.status == 2
    assert message in done.errors.replace("\n", " ")


def test_a_model_without_equilibria_is_refused_before_any_data_are_read(
    idl_here: IdlHere,
) -> None:
    train = ("train", "model=mlp", *DATA, "trainer.epochs=1", "hydra.run.dir=run")
    assert idl_here(*train).status == 0
    done = idl_here("compress", "run=run")
    assert done.status == 2
    assert "after `idl convert`" in done.errors.replace("\n", " ")
