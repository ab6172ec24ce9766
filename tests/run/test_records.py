from __future__ import annotations

import json
from pathlib import Path

import pytest

from idl_cli.errors import RunError
from idl_cli.run import RunDirectory, find_runs, read_record


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
