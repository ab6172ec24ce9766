"""The directory of a run: its own, found before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from idl_cli.commands.output import claim
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


def test_a_directory_with_a_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "0").mkdir(parents=True)
    with pytest.raises(RunError, match=r"sweep\.resume="):
        claim(accept(f"hydra.sweep.dir={tmp_path / 'mine'}"), sweep=True)
