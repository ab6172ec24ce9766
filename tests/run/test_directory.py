import json
import os
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from idl_cli.errors import RunError
from idl_cli.run import RunDirectory, read_metrics, read_summary, run_status


def test_summary_holds_what_is_promised(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", command="train", seed=3) as directory:
        assert run_status(directory.path) == "running"
        directory.finish(
            "completed", {"test_accuracy": 0.5, "x": float("nan")}, sections={"training": {"n": 1}}
        )
    summary = read_summary(tmp_path / "run")
    assert 0 <= summary.pop("seconds") < 60  # type: ignore[operator]
    assert summary == {
        "command": "train",
        "status": "completed",
        "seed": 3,
        "metrics": {"test_accuracy": 0.5, "x": None},
        "training": {"n": 1},
    }
    assert run_status(tmp_path / "run") == "completed"


def test_a_failed_run_says_why_and_a_killed_one_is_recognised(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "a", command="train") as directory:
        directory.finish("failed", {}, "no such file")
    assert read_summary(tmp_path / "a")["error"] == "no such file"
    with RunDirectory(tmp_path / "b", command="train") as directory:
        directory.append_metrics({"step": 1})
    assert run_status(tmp_path / "b") == "killed"


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, command="train"), pytest.raises(RunError, match="in use"):
        RunDirectory(tmp_path, command="train")


def test_a_directory_that_holds_a_run_is_refused_unless_resumed(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, command="train") as directory:
        directory.append_metrics({"step": 1})
        directory.finish("interrupted", {})
    with pytest.raises(RunError, match=r"already holds a run \(summary.json, metrics.jsonl\)"):
        RunDirectory(tmp_path, command="train")
    with pytest.raises(RunError, match="made by `idl train`; `idl sim` cannot continue it"):
        RunDirectory(tmp_path, command="sim", resume=True)
    assert run_status(tmp_path) == "interrupted"
    with RunDirectory(tmp_path, command="train", resume=True) as directory:
        assert directory.metrics_rows == 1
        assert run_status(tmp_path) == "running"
    # The old summary is gone: this run has not ended.
    assert run_status(tmp_path) == "killed"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "run.log").write_text("log")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.safetensors.123.tmp").write_text("left by a crash")
    with RunDirectory(tmp_path, command="train", resume=True):
        pass
    assert (tmp_path / "run.log").read_text() == "log"
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".hydra", "checkpoints", "run.log"]


def test_metrics_are_there_line_by_line_and_can_be_cut_back(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": step / 3} for step in range(5)]
    with RunDirectory(tmp_path, command="train") as directory:
        for number, row in enumerate(rows, 1):
            directory.append_metrics(row)
            assert read_metrics(tmp_path) == rows[:number]
        directory.truncate_metrics(3)
        assert read_metrics(tmp_path) == rows[:3]
        directory.append_metrics(rows[3])
        assert read_metrics(tmp_path) == rows[:4]
        assert directory.metrics_rows == 4
        with pytest.raises(RunError, match="4 rows, but the checkpoint was saved after 6"):
            directory.truncate_metrics(6)


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    with RunDirectory(tmp_path, command="train", resume=True) as directory:
        assert directory.metrics_rows == 2
        directory.truncate_metrics(2)
        directory.append_metrics({"step": 3})
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("line", [b"{broken\n", b"[1]\n"])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl: line 2"):
        read_metrics(tmp_path)


def test_checkpoints_come_back_and_their_description_matches(tmp_path: Path) -> None:
    state = {"weights": torch.arange(3.0), "step": 7}
    with RunDirectory(tmp_path, command="train") as directory:
        directory.save_checkpoint("last", state, {"step": 7})
        loaded = directory.load_checkpoint("last")
        assert isinstance(loaded, dict)
        assert loaded["step"] == 7
        assert loaded["weights"].equal(state["weights"])
        with pytest.raises(RunError, match=r"best\.safetensors: no such file"):
            directory.load_checkpoint("best")
    description = json.loads((tmp_path / "checkpoints" / "last.json").read_text())
    assert description["step"] == 7
    assert len(description["sha256"]) == 64


def test_a_crash_between_the_two_files_of_a_checkpoint_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory(tmp_path, command="train") as directory:
        directory.save_checkpoint("last", {"step": 1, "w": torch.ones(2)}, {"step": 1})
        replace = os.replace

        def crash_at_json(source: Path, target: Path) -> None:
            if target.suffix == ".json":
                raise OSError("power cut")
            replace(source, target)

        monkeypatch.setattr(os, "replace", crash_at_json)
        with pytest.raises(OSError, match="power cut"):
            directory.save_checkpoint("last", {"step": 2, "w": torch.zeros(2)}, {"step": 2})
        state = directory.load_checkpoint("last")
        assert isinstance(state, dict)
        assert state["step"] == 2
        assert state["w"].equal(torch.zeros(2))


def test_a_figure_is_a_png(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    with RunDirectory(tmp_path, command="train") as directory:
        directory.save_figure("curve.png", figure)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_another_run_can_be_continued_here(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "a", command="train") as first:
        first.append_metrics({"step": 1})
        first.save_checkpoint("last", {"step": 1}, {})
    with RunDirectory(tmp_path / "b", command="train") as second:
        second.adopt(tmp_path / "a")
        assert second.metrics_rows == 1
        assert second.load_checkpoint("last") == {"step": 1}
    assert read_metrics(tmp_path / "b") == read_metrics(tmp_path / "a")
