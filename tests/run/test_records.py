from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from idl_cli.errors import RunError
from idl_cli.run import RunDirectory, find_runs, read_metrics, read_record, run_status


def _run(path: Path, summary: dict[str, object] | None = None, config: str | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    if config is not None:
        (path / ".hydra").mkdir()
        (path / ".hydra" / "config.yaml").write_text(config)
    return path


def test_runs_are_found_at_any_depth_and_not_inside_runs(tmp_path: Path) -> None:
    for number in (10, 2):
        _run(tmp_path / "sweep" / str(number), {})
    single = _run(tmp_path / "train" / "a", config="seed: 0\n")
    _run(single / "teacher", {})
    _run(tmp_path / ".hidden" / "x", {})
    (tmp_path / "notes").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "sweep")
    found = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert found == ["sweep/2", "sweep/10", "train/a"]
    assert find_runs(single) == [single]
    assert find_runs(tmp_path / "notes") == []


def test_a_record_says_how_a_run_ended(tmp_path: Path) -> None:
    failed = _run(tmp_path / "f", {"status": "failed", "command": "sim", "error": "no file"})
    assert (read_record(failed).status, read_record(failed).error) == ("failed", "no file")
    killed = _run(tmp_path / "k", config="seed: 1\nmodel: {name: implicit, kappa: 1.0e-05}\n")
    (killed / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: train}}\n")
    record = read_record(killed)
    assert (record.status, record.command, record.error) == ("killed", "train", None)
    assert record.config["model"]["kappa"] == 1e-5
    with RunDirectory(tmp_path / "live", command="train") as directory:
        assert read_record(directory.path).status == "running"


def test_damaged_files_are_named_and_not_fatal(tmp_path: Path) -> None:
    path = _run(tmp_path / "x", config="a: [1\n")
    (path / "summary.json").write_text('{"status": "comp')
    record = read_record(path)
    assert record.status == "unreadable"
    assert record.error is not None
    assert "summary.json" in record.error
    assert "config.yaml" in record.error
    assert read_record(_run(tmp_path / "y", config="- 1\n")).error is not None


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    path = _run(tmp_path / "x", config="a: !!python/object/apply:os.system ['touch made']\n")
    record = read_record(path)
    assert record.config == {}
    assert record.error is not None
    assert not Path("made").exists()


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent"):
        find_runs(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "status is nothing, where completed, failed, interrupted are known"),
        ('{"command": "train"}', "status is nothing"),
        ('{"status": 3}', "status is 3"),
        ('{"status": ["completed"]}', "status is "),
        ('{"status": "done"}', 'status is "done"'),
        ('{"status": "completed", "metrics": [1]}', "metrics is a list"),
        ('{"status": "completed", "sim": "x"}', "sim is a str"),
        ('{"status": "completed", "seconds": "x"}', "seconds is a str"),
        ('{"status": "failed", "error": {}}', "error is a dict"),
        ('{"status": "completed", "command": 1}', "command is a int"),
    ],
)
def test_a_summary_of_other_entries_is_damaged(tmp_path: Path, content: str, reason: str) -> None:
    path = _run(tmp_path / "x", config="seed: 1\n")
    (path / "summary.json").write_text(content)
    record = read_record(path)
    assert (record.status, record.summary, record.config) == ("unreadable", {}, {"seed": 1})
    assert reason in str(record.error)
    with pytest.raises(RunError, match=r"summary\.json: .*" + reason.partition(",")[0]):
        run_status(path)


def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = _run(tmp_path / "x")
    os.mkfifo(path / "summary.json")
    os.mkfifo(path / "metrics.jsonl")
    os.mkfifo(path / ".lock")
    record = read_record(path)
    assert record.status == "unreadable"
    assert f"{path / 'summary.json'}: is a pipe, a socket or a device, where a" in str(record.error)
    with pytest.raises(RunError, match=r"metrics\.jsonl: is a pipe"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 9999, "line 2 is not JSON"),
        (b'{"loss": NaN}', "line 2 is not JSON"),
        (b'{"loss": \xff}', "line 2 is not JSON"),
        (b'"' + b"x" * (1 << 20), "line 2 has more than 1,048,576 bytes"),
        (b"[1]", "line 2 is not a JSON object"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(RunError, match=rf"metrics\.jsonl: {reason}"):
        read_metrics(tmp_path)


def test_a_last_row_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_runs_are_found_however_deep_they_lie(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 600)
    deep.mkdir(parents=True)
    _run(deep / "run", {})
    assert find_runs(tmp_path) == [deep / "run"]
