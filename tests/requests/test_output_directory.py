"""The directory of a run: its own, found before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from idl_cli.errors import RunError
from idl_cli.requests.output_directory import OF_RUNS, claim
from idl_cli.requests.preflight import Accepted, Request, preflight
from idl_cli.run import RunDirectory
from tests.conftest import IdlHere
from tests.sub_commands import COMMANDS


def accept(*overrides: str) -> Accepted:
    return preflight(Request(COMMANDS["train"], COMMANDS, overrides, root="train"))


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


@pytest.mark.parametrize("resume", [(), ("resume=auto",)])
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "summary.json", "model.json", "report.html", "teacher/notes.txt"]
)
def test_files_of_others_are_not_overwritten(
    tmp_path: Path, name: str, resume: tuple[str, ...]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}\n')
    (tmp_path / "notes.txt").write_text("in nobody's way")
    with pytest.raises(RunError, match=f"{name.partition('/')[0]} would be overwritten.*run.dir"):
        claim(accept(f"hydra.run.dir={tmp_path}", *resume), sweep=False)
    (tmp_path / "sweep.csv").write_text("a,b\n")
    with pytest.raises(RunError, match=r"sweep\.csv would be overwritten.*hydra\.sweep\.dir"):
        claim(accept(f"hydra.sweep.dir={tmp_path}"), sweep=True)


def test_a_run_with_a_damaged_summary_is_continued_alone(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, command="train", seed=0) as directory:
        directory.save_checkpoint("last", {}, {})
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(RunError, match="resume=auto goes on from the run's checkpoint"):
        claim(accept(f"hydra.run.dir={tmp_path}"), sweep=False)
    accepted = accept(f"hydra.run.dir={tmp_path}", "resume=auto")
    assert claim(accepted, sweep=False) == (tmp_path, [])


def test_every_file_of_a_run_is_known_to_be_one(idl_here: IdlHere, tmp_path: Path) -> None:
    """Whatever runs write is in the lists of what they must not overwrite."""
    data = ("dataset.train_samples=80", "dataset.test_samples=40", "threads=1", "profile=true")
    path = ("trainer.path=2", "trainer.diagnose_rows=true", "trainer.save_statistics=true")
    runs = {
        "train": ("train", "trainer.epochs=1"),
        "sim": ("sim", "teacher.hidden_dims=[6]", "teacher.epochs=1", *path),
    }
    for name, words in runs.items():
        done = idl_here(*words, *data, f"hydra.run.dir={tmp_path / name}")
        assert done.status == 0, done.errors
        written = {entry.name for entry in (tmp_path / name).iterdir()}
        assert written <= set(OF_RUNS), written - set(OF_RUNS)


def test_a_directory_with_a_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "0").mkdir(parents=True)
    with pytest.raises(RunError, match=r"sweep\.resume="):
        claim(accept(f"hydra.sweep.dir={tmp_path / 'mine'}"), sweep=True)
