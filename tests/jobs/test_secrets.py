"""No file of a run holds a password or token that it was given."""

from __future__ import annotations

from pathlib import Path

from idl_cli.commands.train.resumption import plain
from tests.conftest import IdlHere

SECRET = "hunter2-Ab9"


def test_no_file_of_a_run_holds_a_secret_and_it_can_be_resumed(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    words = (
        "dataset.train_samples=60",
        "dataset.test_samples=20",
        "model.hidden_dim=6",
        "scheduler=constant",
        "threads=1",
        "hydra.run.dir=run",
    )
    first = idl_here("train", *words, "trainer.epochs=1", _environment(SECRET))
    assert first.status == 0, first.errors
    again = idl_here("train", *words, "trainer.epochs=2", "resume=auto", _environment("other-one"))
    assert again.status == 0, again.errors
    shown = first.output + first.errors + again.output + again.errors
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert (tmp_path / "run" / ".hydra" / "hydra.yaml") in files
    assert SECRET not in shown
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert "API_TOKEN:***" in (tmp_path / "run" / ".hydra" / "hydra.yaml").read_text()


def _environment(secret: str) -> str:
    return f"+hydra.job.env_set={{API_TOKEN:{secret}}}"


def test_another_password_is_no_other_request() -> None:
    before, now = (
        plain({"logger": {"tracking_uri": f"https://me:{word}@host"}, "ids": (1, 2)})
        for word in (SECRET, "other")
    )
    assert before == now == {"logger": {"tracking_uri": "https://***@host"}, "ids": [1, 2]}
