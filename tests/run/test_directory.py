import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from idl_cli.errors import RunError
from idl_cli.run import RunDirectory, read_metrics, read_summary, run_status
from idl_cli.run.files import write_atomic
from idl_cli.run.takeover import damage_of


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
    users = (".draft.tmp", "src/.notes.tmp", ".a.1-2.idl-tmp", "src/.b.12-0123abcd.idl-tmp")
    (tmp_path / "src").mkdir()
    for name in users:
        (tmp_path / name).write_text("precious")
    left = ("checkpoints/.last.safetensors.123-0123abcd.idl-tmp", ".model.json.9-deadbeef.idl-tmp")
    for name in left:
        (tmp_path / name).write_text("left by a crash")
    with RunDirectory(tmp_path, command="train", resume=True):
        pass
    assert (tmp_path / "run.log").read_text() == "log"
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert kept == {".hydra", "checkpoints", "run.log", "src", *users}


def test_a_killed_write_leaves_what_the_next_run_removes(tmp_path: Path) -> None:
    """The pattern of the names that are removed is that of the names that are made."""
    with RunDirectory(tmp_path, command="train") as directory:
        directory.append_metrics({"step": 1})
    made = []
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        made.append(Path(source))
        replace(source, target)
        Path(source).write_bytes(b"half")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", killed)
        write_atomic(tmp_path / "summary.json", b"{}")
    (tmp_path / "summary.json").unlink()
    assert [path.exists() for path in made] == [True]
    with RunDirectory(tmp_path, command="train", resume=True):
        assert not made[0].exists()


def test_a_lock_file_of_the_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("of a package manager")
    with pytest.raises(RunError, match=r"\.lock: is no lock of a run"):
        RunDirectory(tmp_path, command="train", resume=True)
    assert (tmp_path / ".lock").read_text() == "of a package manager"


@pytest.mark.parametrize("content", ["", "{", '{"command": "train"}', '{"status": "completeb"}'])
def test_a_damaged_summary_does_not_stop_a_resume(tmp_path: Path, content: str) -> None:
    with RunDirectory(tmp_path, command="train") as directory:
        directory.save_checkpoint("last", {"step": 7}, {"step": 7})
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(RunError, match=r"summary\.json"):
        run_status(tmp_path)
    with pytest.warns(UserWarning, match=r"summary\.json: .*the run goes on without it"):
        resumed = RunDirectory(tmp_path, command="train", resume=True)
    with resumed as directory:
        assert directory.load_checkpoint("last") == {"step": 7}
        directory.finish("completed", {})
    assert run_status(tmp_path) == "completed"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", "{x\n", "line 1 is not JSON"),
        ("metrics.jsonl", "{}\n", "1 rows, but the checkpoint was saved after 2"),
        ("data.json", "", "not a readable JSON file"),
        ("checkpoints/last.safetensors", "", "damaged, or not a safetensors file"),
    ],
)
def test_what_a_run_cannot_go_on_from_is_named(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    with RunDirectory(tmp_path, command="train") as directory:
        directory.append_metrics({"step": 1})
        directory.append_metrics({"step": 2})
        directory.save_checkpoint("last", {"metrics_rows": 2}, {})
    assert damage_of(tmp_path) is None
    (tmp_path / name).write_text(content)
    assert said in (damage_of(tmp_path) or "")
    RunDirectory(tmp_path, command="train", resume=True).close()  # which can then say so


def test_a_directory_in_the_place_of_a_summary_is_not_removed(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, command="train") as directory:
        directory.save_checkpoint("last", {}, {})
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(RunError, match=r"summary\.json: is a directory"):
        RunDirectory(tmp_path, command="train", resume=True)


def test_a_summary_that_no_run_left_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"title": "mine"}')
    with pytest.raises(RunError, match="status is nothing"):
        RunDirectory(tmp_path, command="train", resume=True)
    assert (tmp_path / "summary.json").read_text() == '{"title": "mine"}'


def test_nothing_is_written_where_the_directory_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDirectory(path, command="train") as directory:
        directory.append_metrics({"step": 1})
        shutil.rmtree(path)
        writes: list[Callable[[], object]] = [
            lambda: directory.append_metrics({"step": 2}),
            lambda: directory.save_checkpoint("last", {}, {}),
            lambda: directory.write_json("a.json", {}),
            lambda: directory.write_text("a.txt", ""),
            lambda: directory.write_table("a.csv", []),
            lambda: directory.write_tensors("a.safetensors", {}),
            lambda: directory.finish("completed", {}),
        ]
        for write in writes:
            with pytest.raises(RunError, match="run: was removed while the run went on"):
                write()
    assert list(tmp_path.iterdir()) == []
    with RunDirectory(path, command="train") as directory:
        (path / ".lock").unlink()  # `rm -rf` is on its way, and what is written would stay behind
        with pytest.raises(RunError, match="run: was removed while the run went on"):
            directory.append_metrics({"step": 1})


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
