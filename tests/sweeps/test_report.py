from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from idl_cli.reporting import SilentReporter
from idl_cli.sweeps.report import report_sweep
from tests.sub_commands import COMMANDS


class _Listener(SilentReporter):
    def __init__(self) -> None:
        self.columns: dict[str, Sequence[str]] = {}
        self.messages: list[str] = []
        self.tables: dict[str, Sequence[Sequence[object]]] = {}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.tables[title] = rows
        self.columns[title] = columns

    def message(self, text: str) -> None:
        self.messages.append(text)


def _job(sweep: Path, number: int, overrides: list[str], summary: dict[str, object] | None) -> None:
    hydra = sweep / str(number) / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "overrides.yaml").write_text("".join(f"- {line}\n" for line in overrides))
    if summary is not None:
        (sweep / str(number) / "summary.json").write_text(json.dumps(summary))


def _rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_job_has_a_row_however_it_ended(tmp_path: Path) -> None:
    done = {"status": "completed", "seconds": 1.5, "metrics": {"test_r2": 0.5}}
    sim = {"sim": {"samples": 9, "ab": {"relative_gap": 1e-7, "status": "optimal"}}}
    failed = {"status": "failed", "seconds": 0.1, "metrics": {}, "error": "no such file, sadly"}
    _job(tmp_path, 10, ["model=rnn", "optimizer.lr=1e-3", "trainer.epochs=2"], {**done, **sim})
    _job(tmp_path, 2, ["model=lstm", "optimizer.lr=1e-2", "trainer.epochs=2"], failed)
    _job(tmp_path, 3, ["model=lstm", "optimizer.lr=1e-3", "trainer.epochs=2"], None)
    (tmp_path / "notes").mkdir()
    report_sweep(tmp_path, COMMANDS, SilentReporter())
    rows = _rows(tmp_path)
    assert [row["job"] for row in rows] == ["2", "3", "10"], "in order of the number"
    assert [row["status"] for row in rows] == ["failed", "killed", "completed"]
    assert [row["model"] for row in rows] == ["lstm", "lstm", "rnn"]
    assert [row["optimizer.lr"] for row in rows] == ["1e-2", "1e-3", "1e-3"]
    assert "trainer.epochs" not in rows[0], "the same in all jobs"
    assert rows[0]["error"] == "no such file, sadly"
    assert [row["test_r2"] for row in rows] == ["", "", "0.5"]
    assert rows[2]["sim.ab.relative_gap"] == "1e-07"
    assert rows[2]["dir"] == "10"
    assert json.loads((tmp_path / "sweep.json").read_text())[2]["seconds"] == 1.5
    assert not (tmp_path / "extrapolation.csv").exists()


def test_extrapolation_is_averaged_over_the_seeds_of_a_variant(tmp_path: Path) -> None:
    for number, (model, seed, error) in enumerate(
        [("rnn", 0, 0.1), ("rnn", 1, 0.3), ("lstm", 0, 0.5), ("lstm", 1, None)]
    ):
        shift = [{"shift": 1.0, "distance": 0.0, "error": error}]
        summary = {"status": "completed", "metrics": {}, "shift": shift}
        if model == "lstm" and seed == 1:
            summary = {"status": "failed", "metrics": {}, "error": "stopped"}
        _job(tmp_path, number, [f"model={model}", f"seed={seed}"], summary)
        description = {"shift": "width f", "training_shift": 2.0, "error": "error rate"}
        (tmp_path / str(number) / "shift.json").write_text(json.dumps(description))
    listener = _Listener()
    report_sweep(tmp_path, COMMANDS, listener)
    table = json.loads((tmp_path / "extrapolation.json").read_text())
    assert (table["shift"], table["training_shift"]) == ("width f", 2.0)
    assert [(row["variant"], row["runs"], row["error_mean"]) for row in table["rows"]] == [
        ("rnn", 2, 0.2),
        ("lstm", 1, 0.5),
    ]
    assert (tmp_path / "extrapolation.png").exists()
    shown = listener.tables["error rate, mean ± deviation over runs"]
    assert [row[-2] for row in shown] == ["0.2 ± 0.1", "0.5"]


def test_jobs_that_never_started_have_rows_too(tmp_path: Path) -> None:
    lines = [["model=rnn", "hydra.launcher.n_jobs=1"], ["model=lstm", "hydra.launcher.n_jobs=1"]]
    jobs = [{"job": number, "overrides": each} for number, each in enumerate(lines)]
    plan = {"command": "train", "request": ["model=rnn,lstm"], "jobs": jobs}
    (tmp_path / "jobs.json").write_text(json.dumps(plan))
    _job(tmp_path, 0, ["model=rnn"], {"status": "completed", "metrics": {"test_r2": 0.5}})
    listener = _Listener()
    report_sweep(tmp_path, COMMANDS, listener)
    done, waiting = _rows(tmp_path)
    assert (done["status"], waiting["status"]) == ("completed", "not started")
    assert (waiting["job"], waiting["model"], waiting["dir"]) == ("1", "lstm", "1")
    assert (waiting["test_r2"], waiting["error"]) == ("", "")
    assert "hydra.launcher.n_jobs" not in done, "says how jobs are run, not what they are"
    assert listener.tables["not completed"] == [[1, "not started", "lstm", None]]


def test_an_empty_sweep_leaves_nothing(tmp_path: Path) -> None:
    report_sweep(tmp_path, COMMANDS, SilentReporter())
    assert list(tmp_path.iterdir()) == []


def test_keys_that_a_terminal_has_no_room_for_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    keys = [f"model.key_number_{number}" for number in range(6)]
    for number in range(2):
        failed = {"status": "failed", "metrics": {}, "error": "a long sentence " * 9}
        _job(tmp_path, number, [f"{key}={number}" for key in keys], failed)
    listener = _Listener()
    report_sweep(tmp_path, COMMANDS, listener)
    shown = ["job", "status", "key_number_0", "error"]
    assert listener.columns["not completed"] == shown
    assert any(text.startswith(f"no room for {keys[1]}, ") for text in listener.messages)
    assert set(keys) <= set(_rows(tmp_path)[0])


def test_a_grid_of_two_keys_fits_a_terminal_of_80(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = {"validation_accuracy": 0.9513888888888888, "test_accuracy": 0.9554317548746518}
    for number in range(2):
        summary = {"status": "completed", "metrics": figures, "seconds": 2.9191234}
        summary["sim"] = {"nonzero_fraction": 0.05844155844155844}
        given = [f"solver={('admm', 'active_set')[number]}", f"trainer.lambda_z={number + 1}"]
        _job(tmp_path, number, given, summary)
    listener = _Listener()
    report_sweep(tmp_path, COMMANDS, listener)
    shown = next(columns for title, columns in listener.columns.items() if "best" in title)
    assert "lambda_z" in shown
    assert not any(text.startswith("no room") for text in listener.messages)
