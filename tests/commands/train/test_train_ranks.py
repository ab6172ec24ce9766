"""``idl train trainer.devices=2``: the figures of one process, interrupted, resumed, and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from idl_cli.assembly.objects import build_dataset
from idl_cli.distributed.group import Group
from idl_cli.errors import DataError
from idl_cli.jobs.ranks import run_on_ranks
from idl_cli.reporting import SilentReporter
from idl_cli.run import RunDirectory, load_model, read_metrics, read_summary, run_status
from tests.commands.helpers import train, train_settings
from tests.conftest import IdlHere
from tests.distributed.helpers import ending, nothing_left_behind
from tests.forking import Command
from tests.sub_commands import COMMANDS
from tests.training.helpers import without_seconds
from tests.training.ranks import Ranks

pytestmark = pytest.mark.slow

_SECONDS = 30.0  # in which every process must have ended after one of them died

_ARGUMENTS = (
    "train",
    "model.hidden_dim=12",
    "dataset.train_samples=300",
    "dataset.test_samples=50",
    "trainer.epochs=30",
    "trainer.batch_size=64",
    "device=cpu",
    "threads=1",
    "hydra.run.dir=run",
)

_SMALL = (
    "model.hidden_dim=12",
    "dataset.train_samples=150",
    "dataset.test_samples=60",
    "trainer.epochs=4",
    "trainer.batch_size=32",
    "optimizer.lr=5e-3",
    "scheduler=constant",
    "device=cpu",
    "threads=1",
    "hydra.run.dir=run",
)
"""What ``tests.commands.helpers.SMALL`` says, as arguments."""


def _train_on_ranks(path: Path, count: int, **changes: Any) -> dict[str, Any]:
    settings = train_settings(**changes)
    with RunDirectory(path, command="train", seed=settings.seed) as directory:
        return run_on_ranks(
            COMMANDS["train"], settings, directory, SilentReporter(), devices=("cpu",) * count
        )


def _assert_close(rows: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    assert len(rows) == len(expected)
    for row, other in zip(without_seconds(rows), without_seconds(expected), strict=True):
        assert row.keys() == other.keys()
        for key in ("step", "epoch", "split", "accuracy"):
            assert row[key] == other[key]
        for key in ("loss", "inf_norm_A", "lr"):
            assert row[key] == pytest.approx(other[key], abs=1e-5)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on two ranks, and what it returned."""
    path = tmp_path_factory.mktemp("ranks") / "two"
    return path, _train_on_ranks(path, 2)


def test_two_ranks_leave_behind_what_one_process_does(
    tmp_path: Path, ranked: tuple[Path, dict[str, Any]]
) -> None:
    one, (two, result) = tmp_path / "one", ranked
    expected = train(one)
    _assert_close(read_metrics(two), read_metrics(one))
    assert result["metrics"] == pytest.approx(expected["metrics"], abs=1e-5)
    assert (result["training"]["ranks"], expected["training"]["ranks"]) == (2, 1)
    assert {path.name for path in two.iterdir()} == (
        {path.name for path in one.iterdir()} - {"summary.json"}  # which the job writes
    )
    assert load_model(two).state_dict().keys() == load_model(one).state_dict().keys()


def test_ranks_that_find_other_samples_are_refused(ranks: Ranks) -> None:
    first, second = ranks.run(2, _refusal)
    assert first == (
        "dataset=digits: rank 1 finds (91, 10, 359) training, validation and test samples, rank 0"
        " (90, 10, 359); give every machine the same files"
    )
    assert str(second).startswith("dataset=digits: rank 0 finds (90, 10, 359)")


def test_ranks_that_find_other_values_are_refused(ranks: Ranks) -> None:
    """As many samples, but another validation part."""
    first, second = ranks.run(2, _refusal_of_values)
    assert first == (
        "dataset=digits: rank 1 finds other values than rank 0, in as many samples; give every "
        "machine the same files"
    )
    assert str(second).startswith("dataset=digits: rank 0 finds other values than rank 1")


def _refusal(group: Group) -> str | None:
    return _refused(group, train_samples=100 + group.rank)


def _refusal_of_values(group: Group) -> str | None:
    return _refused(group, train_samples=100, seed=group.rank)


def _refused(group: Group, *, train_samples: int, seed: int = 0) -> str | None:
    settings = train_settings(
        dataset={"name": "digits", "train_samples": train_samples, "test_samples": None}, seed=seed
    )
    try:
        build_dataset(settings, group)
    except DataError as error:
        return str(error)
    return None


def test_agents_of_torchrun_give_the_same_figures(
    tmp_path: Path, ranked: tuple[Path, dict[str, Any]]
) -> None:
    """Two agents on loopback, as on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
    where = ("--master-addr=127.0.0.1", f"--master-port={port}")
    agents = [
        subprocess.Popen(
            [*torchrun, f"--node-rank={node}", *where, "-m", "idl_cli", "train", *_SMALL],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in range(2)
    ]
    outputs = [agent.communicate(timeout=4 * _SECONDS)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    path, result = ranked
    run = tmp_path / "run"
    assert read_summary(run)["metrics"] == result["metrics"]
    assert without_seconds(read_metrics(run)) == without_seconds(read_metrics(path))
    told = [output.count("epoch 4/4") for output in outputs]
    assert sorted(told) == [0, 1]  # rank 0 is of either agent


@contextmanager
def _at_third_epoch(home: Path) -> Iterator[Command]:
    """A training on two ranks that has just reported its third epoch."""
    words = (*_ARGUMENTS, "trainer.devices=2")
    with ending(Command(words, home, {"COLUMNS": "200"})) as process:
        process.until("epoch  3/30")
        yield process


def test_interrupted_ranks_go_on_as_one_process(tmp_path: Path, idl_here: IdlHere) -> None:
    with _at_third_epoch(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_SECONDS)
    assert process.returncode == 130
    run = tmp_path / "run"
    assert run_status(run) == "interrupted"
    assert 6 <= len(read_metrics(run)) < 60
    done = idl_here(*_ARGUMENTS, "resume=auto")
    assert done.status == 0, done.errors
    assert "resumed" in done.output
    whole = idl_here(*_ARGUMENTS[:-1], "hydra.run.dir=whole")
    assert whole.status == 0, whole.errors
    _assert_close(read_metrics(run), read_metrics(tmp_path / "whole"))


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_rank_that_is_killed_ends_the_training(tmp_path: Path) -> None:
    with _at_third_epoch(tmp_path) as process:
        parent = psutil.Process(process.pid)
        children = parent.children(recursive=True)
        ranks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(ranks) == 2
        ranks[1].kill()
        started = time.monotonic()
        _, errors = process.communicate(timeout=_SECONDS)
        assert time.monotonic() - started < _SECONDS
    assert process.returncode == 1
    assert "rank" in errors
    assert "was killed by SIGKILL" in errors
    while any(_lives(child) for child in children):  # multiprocessing's tracker ends by itself
        assert time.monotonic() - started < _SECONDS
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "failed"
    assert "was killed by SIGKILL" in str(summary["error"])


def test_a_full_disk_fails_the_training_with_what_to_do(tmp_path: Path) -> None:
    """Here it is the largest file that may be written: 20 kB do not hold a checkpoint."""
    arguments = ("train", *_SMALL, "trainer.devices=2")
    command = [sys.executable, "-m", "idl_cli", *arguments]
    with nothing_left_behind():
        done = subprocess.run(
            ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *command],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=100.0,
        )
    assert done.returncode == 1
    summary: Any = read_summary(tmp_path / "run")
    assert summary["status"] == "failed"
    assert summary["error"].startswith("rank 0 failed: ")
    assert summary["error"].endswith(
        ".safetensors: File too large; make room; resume=auto goes on where a run was, "
        "sweep.resume=DIR where a sweep was"
    )
    assert summary["error"] in done.stderr
