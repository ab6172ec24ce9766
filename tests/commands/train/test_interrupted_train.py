"""``idl train`` as a process that is killed, interrupted, terminated, and resumed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from idl_cli.run import read_metrics, read_summary, run_status
from idl_cli.run.state import read_state
from tests.conftest import Idl, IdlHere
from tests.distributed.helpers import ending
from tests.forking import Command, completed
from tests.run.test_state import assert_same
from tests.training.helpers import without_seconds

pytestmark = pytest.mark.slow

_ARGUMENTS = (
    "train",
    "model.hidden_dim=12",
    "dataset.train_samples=300",
    "dataset.test_samples=50",
    "trainer.epochs=40",
    "trainer.batch_size=64",
    "trainer.checkpoint_every=3",
    "threads=1",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    home = tmp_path_factory.mktemp("whole")
    done = completed((*_ARGUMENTS, "hydra.run.dir=run"), home)
    assert done.returncode == 0, done.stderr
    return home / "run"


def _start_and_signal(home: Path, number: signal.Signals) -> int:
    """Start a run and send it a signal once it reports its third epoch; return its exit status."""
    words = (*_ARGUMENTS, "hydra.run.dir=run")
    with ending(Command(words, home, {"COLUMNS": "200"}, merged=True)) as process:
        process.until("epoch  3/40")
        process.send_signal(number)
        process.stdout.read()
    return process.wait()


def _assert_same_end(run: Path, whole: Path) -> None:
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert without_seconds(read_metrics(run)) == without_seconds(read_metrics(whole))
    for which in ("last", "best"):
        ours, theirs = (
            read_state(path / "checkpoints" / f"{which}.safetensors") for path in (run, whole)
        )
        assert_same(_comparable(ours), _comparable(theirs))
    ours_metrics, theirs_metrics = (read_summary(path)["metrics"] for path in (run, whole))
    assert ours_metrics == theirs_metrics


def _comparable(state: Any) -> Any:
    kept: dict[str, Any] = without_seconds(state)
    kept["settings"].pop("resume")
    return kept


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, whole: Path, idl: Idl) -> None:
    assert _start_and_signal(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    run = tmp_path / "run"
    assert run_status(run) == "killed"
    assert 4 <= len(read_metrics(run)) < 80
    done = idl(*_ARGUMENTS, "hydra.run.dir=run", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stdout
    _assert_same_end(run, whole)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["sigint", "sigterm"]
)
def test_an_interrupted_run_says_so_and_goes_on_to_the_same_bits(
    tmp_path: Path, whole: Path, idl_here: IdlHere, number: signal.Signals, status: int
) -> None:
    assert _start_and_signal(tmp_path, number) == status
    run = tmp_path / "run"
    assert run_status(run) == "interrupted"
    assert read_summary(run)["status"] == "interrupted"
    done = idl_here(*_ARGUMENTS, "hydra.run.dir=run", "resume=auto")
    assert done.status == 0, done.errors
    assert run_status(run) == "completed"
    _assert_same_end(run, whole)


def test_eval_reproduces_the_run(whole: Path, idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("eval", f"run={whole}", "hydra.run.dir=eval")
    assert done.status == 0, done.errors
    assert read_summary(tmp_path / "eval")["metrics"] == read_summary(whole)["metrics"]


def test_a_directory_in_use_is_refused(tmp_path: Path, idl_here: IdlHere) -> None:
    from idl_cli.run import RunDirectory

    with RunDirectory(tmp_path / "run", command="train"):
        done = idl_here(*_ARGUMENTS, "hydra.run.dir=run")
    assert done.status == 1
    assert "a run that is still going writes there" in done.errors
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_whose_reader_leaves_goes_on_to_its_end(tmp_path: Path) -> None:
    # As `idl train | head -1` does.
    command = [sys.executable, "-m", "idl_cli", "train", "threads=1", "hydra.run.dir=run"]
    quick = ["trainer.epochs=3", "dataset.train_samples=200", "model.hidden_dim=8"]
    with ending(
        subprocess.Popen([*command, *quick], cwd=tmp_path, stdout=subprocess.PIPE)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert read_summary(tmp_path / "run")["status"] == "completed"
