"""Studies of Optuna: killed, continued, extended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IdlHere
from tests.sweeps.helpers import LITTLE, OF_SMALL_FITS, Start, table_of, untouched, wait_for

pytestmark = [pytest.mark.slow, OF_SMALL_FITS]

STUDY = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=4",
    "hydra.sweeper.sampler.seed=1",
    "optimizer.lr=tag(log,interval(1e-3,1e-1))",
    "optimized_metric=test_loss",
    "hydra.sweep.dir=sweep",
    *LITTLE,
)


def _trials(sweep: Path) -> list[Any]:
    optuna = pytest.importorskip("optuna")
    return list(optuna.load_study(study_name="train", storage=f"sqlite:///{sweep}/study.db").trials)


def test_a_study_that_was_killed_goes_on(idl_here: IdlHere, start: Start, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    process = start("train", "-m", *STUDY, "trainer.epochs=40")
    wait_for((sweep / "1" / "checkpoints" / "last.safetensors").exists, process)
    process.kill()
    output, _ = process.communicate()
    assert "alembic" not in output
    assert [trial.state.name for trial in _trials(sweep)] == ["COMPLETE", "RUNNING"]
    with untouched(sweep / "0"):
        done = idl_here("train", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "1 of 4 trials complete, 3 to run" in done.output
    assert f"resumed {sweep / '1'} at step" in done.output, "where it was, in its own directory"
    rows = table_of(sweep)
    assert [row["job"] for row in rows] == ["0", "1", "2", "3"]
    assert len({row["optimizer.lr"] for row in rows}) == 4, "no point comes twice"
    complete = [trial for trial in _trials(sweep) if trial.state.name == "COMPLETE"]
    assert [trial.value for trial in complete] == [float(row["test_loss"]) for row in rows]
    best = min(rows, key=lambda row: float(row["test_loss"]))
    assert f"Best value: {best['test_loss']}" in done.output, "less of a loss is better"

    done = idl_here("train", "sweep.resume=sweep", "threads=1")
    assert done.status == 0, done.errors
    assert "4 of 4 trials complete, 0 to run" in done.output
    assert len(_trials(sweep)) == 5

    done = idl_here("train", "sweep.resume=sweep", "hydra.sweeper.n_trials=5")
    assert done.status == 0, done.errors
    assert "4 of 5 trials complete, 1 to run" in done.output, "the one run twice counts once"
    assert len(table_of(sweep)) == 5

    done = idl_here("train", "sweep.resume=sweep", "trainer.epochs=1")
    assert done.status == 2
    assert "trainer.epochs=1: the trials of a study are compared with each other" in done.errors


def test_failing_trials_do_not_end_a_study(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "train",
        "-m",
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.n_trials=3",
        "model.hidden_dim=8,2147483647",
        "hydra.sweep.dir=sweep",
        *LITTLE[1:],
        "trainer.epochs=1",
    )
    assert done.status == 1
    assert "1 of 2 jobs failed" in done.errors
    states = sorted(trial.state.name for trial in _trials(tmp_path / "sweep"))
    assert states == ["COMPLETE", "FAIL"]


def test_a_study_without_a_figure_to_improve_is_refused(idl_here: IdlHere) -> None:
    done = idl_here("train", "-m", *STUDY[:4], "dataset.validation_fraction=0")
    assert done.status == 2
    assert "optimized_metric: a study needs a figure" in done.errors
