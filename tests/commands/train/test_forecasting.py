"""A user's table, forecast from the command line: what is said, left behind, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import IdlHere

QUICK = ("trainer.epochs=2", "threads=1", "hydra.run.dir=run")


def _write_table(folder: Path, rows: int = 150) -> None:
    values = 15 + 8 * np.sin(np.arange(rows) / 5)
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-01") + rows)
    lines = [f"{day},{value:.3f}" for day, value in zip(days, values, strict=True)]
    (folder / "my.csv").write_text("\n".join(["day,temp", *lines]) + "\n")


def _summary(directory: Path) -> dict[str, dict[str, float]]:
    summary: dict[str, dict[str, float]] = json.loads((directory / "summary.json").read_text())
    return summary


def test_a_users_file_needs_no_further_argument(idl_here: IdlHere, tmp_path: Path) -> None:
    _write_table(tmp_path)
    done = idl_here(
        "train", "model=rnn", "dataset=csv", "dataset.file=my.csv", "dataset.target=temp", *QUICK
    )
    assert done.status == 0, done.errors
    for said in (
        "assumed: dates are in column 'day'",
        "assumed: inputs are the past of temp",
        "assumed: a window of 15 rows",
        "forecasts the next row",
        "assumed: split in time, oldest first",
        "a change from the last value is forecast",
    ):
        assert said in done.output
    assert "test, persistence" in done.output
    summary = _summary(tmp_path / "run")
    metrics = summary["metrics"]
    assert {"test_r2", "test_mse", "test_mae", "test_mape", "test_persistence_r2"} <= set(metrics)
    assert len(summary["assumptions"]) == 5
    assert (tmp_path / "run" / "forecast.png").stat().st_size > 1000

    evaluated = idl_here("eval", "run=run", "hydra.run.dir=eval")
    assert evaluated.status == 0, evaluated.errors
    again = _summary(tmp_path / "eval")["metrics"]
    assert {name: again[name] for name in metrics if name in again} == {
        name: value for name, value in metrics.items() if name in again
    }
    assert "test_r2" in again


@pytest.mark.parametrize(
    ("damage", "status", "sentence"),
    [
        (lambda lines: lines[1:], 1, "line 1, column 2: '15.000' is a number"),
        (lambda lines: [*lines[:5], "2020-01-05,warm", *lines[6:]], 1, "line 6, column 'temp'"),
        (
            lambda lines: [
                *lines[:5],
                "2020-01-05,",
                *(f"{x[:10]}," for x in lines[6:20]),
                *lines[20:],
            ],
            1,
            "line 6, column 'temp': no value",
        ),
        (lambda lines: [*lines[:5], lines[7], *lines[6:]], 1, "line 7, column 'day': 2020-01-06"),
        (lambda lines: [lines[0], *(f"{x[:10]},5" for x in lines[1:])], 1, "column 'temp': const"),
        (lambda lines: lines[:20], 1, "the train part has 13 of 19 rows, too few"),
        (lambda lines: ["day,heat", *lines[1:]], 2, "dataset.target=temp:"),
    ],
    ids=["header", "text", "missing", "order", "constant", "short", "column"],
)
def test_a_malformed_file_is_one_sentence(
    idl_here: IdlHere, tmp_path: Path, damage: object, status: int, sentence: str
) -> None:
    assert callable(damage)
    _write_table(tmp_path)
    file = tmp_path / "my.csv"
    file.write_text("\n".join(damage(file.read_text().splitlines())) + "\n")
    done = idl_here(
        "train",
        "model=rnn",
        "dataset=csv",
        "dataset.file=my.csv",
        "dataset.target=temp",
        "dataset.look_back=20",
        *QUICK,
    )
    assert done.status == status
    assert "my.csv" in done.errors
    assert sentence in done.errors
    assert len(done.errors.strip().splitlines()) == 1
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not {"model.safetensors", "forecast.png", "checkpoints"} & left
    assert _summary(tmp_path / "run")["status"] == "failed"


def test_wrong_columns_are_refused_before_any_work(idl_here: IdlHere, tmp_path: Path) -> None:
    _write_table(tmp_path)
    done = idl_here("train", "dataset=csv", "dataset.file=my.csv", "dataset.columns=[temp]")
    assert done.status == 2
    assert "dataset.target" in done.errors
    done = idl_here(
        "train", "dataset=csv", "dataset.file=my.csv", "dataset.target=temp",
        "dataset.columns=[temp]",
    )  # fmt: skip
    assert done.status == 2
    assert "dataset.columns: temp is dataset.target" in done.errors
    assert not (tmp_path / "outputs").exists()
