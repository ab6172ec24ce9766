"""``debug=…`` is the same word under every command that trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.helpers import summary_of
from tests.conftest import IdlHere


@pytest.mark.parametrize("command", ["train", "sim"])
def test_fast_goes_the_whole_way_on_few_samples(
    idl_here: IdlHere, tmp_path: Path, command: str
) -> None:
    done = idl_here(command, "debug=fast", "hydra.run.dir=run", "threads=1")
    assert done.status == 0, done.errors
    summary = summary_of(tmp_path / "run")
    assert summary["status"] == "completed"
    assert "test_accuracy" in summary["metrics"]
    if command == "sim":
        assert summary["sim"]["samples"] <= 128


def test_overfit_memorises_under_train(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("train", "debug=overfit", "hydra.run.dir=run", "threads=1")
    assert done.status == 0, done.errors
    assert summary_of(tmp_path / "run")["metrics"]["train_accuracy"] == 1.0


def test_overfit_matches_the_teacher_under_sim(idl_here: IdlHere, tmp_path: Path) -> None:
    small = ("teacher.hidden_dims=[12]", "trainer.prune_baseline=false")
    done = idl_here("sim", "debug=overfit", *small, "hydra.run.dir=run", "threads=1")
    assert done.status == 0, done.errors
    assert summary_of(tmp_path / "run")["sim"]["state_fit"] < 1e-4


@pytest.mark.parametrize("command", ["train", "sim"])
def test_profile_leaves_a_table_and_a_trace(
    idl_here: IdlHere, tmp_path: Path, command: str
) -> None:
    small = ("dataset.train_samples=100", "dataset.test_samples=50")
    more = ("teacher.hidden_dims=[8]", "teacher.epochs=1") if command == "sim" else ()
    done = idl_here(command, "debug=profile", *small, *more, "hydra.run.dir=run", "threads=1")
    assert done.status == 0, done.errors
    run = tmp_path / "run"
    table = (run / "profile.txt").read_text()
    assert "Self CPU" in table
    assert "aten::" in table
    trace = json.loads((run / "profile.json").read_text())
    assert any(str(event.get("name", "")).startswith("aten::") for event in trace["traceEvents"])
    assert "own seconds" in done.output
