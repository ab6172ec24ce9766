"""The directory of a run: its own, found before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idl_cli.commands.output import PLAN, claim, unfinished_jobs
from idl_cli.commands.preflight import Accepted, Request, preflight
from idl_cli.commands.specification import COMMANDS
from idl_cli.errors import RunError
from idl_cli.run import RunDirectory


def accept(*overrides: str) -> Accepted:
    return preflight(Request(COMMANDS["train"], overrides, root="train"))


def test_two_runs_of_one_second_get_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    accepted = accept()  # one composition: one time stamp for both
    first, telling_hydra = claim(accepted, sweep=False)
    assert telling_hydra == [f"hydra.run.dir='{first}'"]
    assert first.parent == Path("outputs/train")
    second, _ = claim(accepted, sweep=False)
    assert second == Path(f"{first}_2")
    assert sorted(Path("outputs/train").iterdir()) == [first, second]
    sweep, telling_hydra = claim(accepted, sweep=True)
    assert sweep == Path("outputs/multirun/train") / first.name
    assert telling_hydra == [f"hydra.sweep.dir='{sweep}'"]


def test_a_directory_that_the_user_named_is_left_to_hydra(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    assert claim(accept(f"hydra.run.dir={target}"), sweep=False) == (target, [])
    assert not target.exists()


def test_a_directory_with_a_run_is_refused_unless_it_is_continued(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    with RunDirectory(target, command="train", seed=0) as directory:
        with pytest.raises(RunError, match="still going"):
            claim(accept(f"hydra.run.dir={target}", "resume=auto"), sweep=False)
        directory.finish("completed", {})
    with pytest.raises(RunError, match="resume=auto"):
        claim(accept(f"hydra.run.dir={target}"), sweep=False)
    assert claim(accept(f"hydra.run.dir={target}", "resume=auto"), sweep=False) == (target, [])


def test_unfinished_jobs_are_those_of_the_plan_without_a_completed_summary(tmp_path: Path) -> None:
    statuses = ["completed", "failed", None, *["completed"] * 8]
    for number, status in enumerate(statuses):
        (tmp_path / str(number)).mkdir()
        if status:
            summary = json.dumps({"status": status})
            (tmp_path / str(number) / "summary.json").write_text(summary)
    jobs = [{"job": number, "overrides": []} for number in range(12)]
    (tmp_path / PLAN).write_text(json.dumps({"jobs": jobs}))
    assert unfinished_jobs(tmp_path) == (["1", "2", "11"], 12)


def test_a_directory_with_a_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "0").mkdir(parents=True)
    with pytest.raises(RunError, match=r"sweep\.resume="):
        claim(accept(f"hydra.sweep.dir={tmp_path / 'mine'}"), sweep=True)
