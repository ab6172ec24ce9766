"""``idl sim`` on several processes: the answer of one, and every way to fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from idl_cli.run import read_metrics, read_summary, run_status
from tests.conftest import IdlHere
from tests.distributed.helpers import (
    LIMIT,
    all_ended,
    descendants,
    ending,
    nothing_left_behind,
    wait_until,
)
from tests.forking import Command

PROBLEM = (
    "dataset.train_samples=150",
    "dataset.test_samples=40",
    "teacher.epochs=2",
    "teacher.hidden_dims=[12,9]",  # 21 rows: not divisible by 2
    "trainer.lambda_z=1e-2",
    "trainer.lambda_y=1e-2",
    "trainer.tol=1e-10",
    "device=cpu",
    "threads=1",
)

PLUG_IN = '''\
"""A solver that goes wrong on one rank."""
import datetime
import os
import sys
import time

import torch

from idl_cli.sim.regression.solver import BaseSolver


class Faulty(BaseSolver):
    """Goes wrong as told."""

    def __init__(self, *, fault: str, devices: int | None = None, processes: int | None = None):
        self.fault = fault

    def solve(self, problem, monitor):
        if monitor.group.rank == 1 and self.fault == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
        sys.stdout.write(f"solving in {os.getpid()}\\n")  # one write: print makes two
        sys.stdout.flush()
        if self.fault == "deaf":
            if monitor.group.rank == 1:
                raise ZeroDivisionError("the seventh block is empty")
            store = torch.distributed.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
            store.wait(["never"], datetime.timedelta(hours=1))  # answers no signal, as NCCL does
        while self.fault == "waits":
            time.sleep(0.05)
        monitor.group.barrier()
'''


# Of teachers of few epochs and λ that leave few weights.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default::idl_cli.errors.PoorFitWarning"),
]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an installed plug-in: the solver ``faulty``."""
    place = tmp_path / "plug-ins"
    information = place / "idl_faulty-1.0.dist-info"
    information.mkdir(parents=True)
    (place / "idl_faulty.py").write_text(PLUG_IN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: idl-faulty\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[idl_cli.solvers]\nfaulty = idl_faulty:Faulty\n")
    monkeypatch.syspath_prepend(str(place))
    return place


def _figures(summary: dict[str, Any]) -> dict[str, float]:
    return {
        **summary["metrics"],
        **{f"objective_{stage}": summary["sim"][stage]["objective"] for stage in ("ab", "cd")},
    }


def test_two_processes_give_the_certified_answer_of_one(tmp_path: Path, idl_here: IdlHere) -> None:
    """In a sweep, whose second job starts processes; rank 0 trains the teacher for both."""
    exact = (*PROBLEM, "dtype=float64")  # [C D] is fitted on equilibria of the model's precision
    done = idl_here("sim", "solver=admm", *exact, "hydra.run.dir=one")
    assert done.status == 0, done.errors
    with nothing_left_behind():
        done = idl_here(
            "sim",
            "-m",
            "solver=admm_multigpu",
            "solver.processes=1,2",
            *exact,
            "hydra.sweep.dir=sweep",
        )
    assert done.status == 0, done.errors
    expected: Any = read_summary(tmp_path / "one")
    for job in ("0", "1"):
        found: Any = read_summary(tmp_path / "sweep" / job)
        assert found["status"] == "completed"
        assert {found["sim"][stage]["status"] for stage in ("ab", "cd")} <= {
            "optimal",
            "at_precision",
        }
        assert _figures(found) == pytest.approx(_figures(expected), rel=1e-9)
        assert found["sim"]["teacher"]["origin"] == "trained here"
    ranks = tmp_path / "sweep" / "1"
    assert {path.name for path in ranks.iterdir()} == {
        path.name for path in (tmp_path / "sweep" / "0").iterdir()
    }
    log = (ranks / "run.log").read_text()
    assert "ranks: cpu, cpu; 1 thread each" in log
    assert log.count("problem\n") == 1


def test_a_rank_out_of_memory_fails_the_run(
    tmp_path: Path, idl_here: IdlHere, plug_in: Path
) -> None:
    sentence = (
        "rank 1 failed: out of memory: tried to allocate 80 gib; use fewer samples, smaller "
        "batches or models"
    )
    with nothing_left_behind():
        done = idl_here(
            "sim",
            "solver=faulty",
            "solver.fault=memory",
            "solver.processes=2",
            *PROBLEM,
            "hydra.run.dir=run",
        )
    assert done.status == 1
    log = tmp_path / "run" / "run.log"
    assert done.errors == f"idl sim: {sentence}\nThe traceback is in {log}\n"
    assert "torch.OutOfMemoryError: CUDA out of memory" in log.read_text()
    summary = read_summary(tmp_path / "run")
    assert (summary["status"], summary["error"]) == ("failed", sentence)


def test_more_devices_than_there_are_fail_before_a_process_starts(
    tmp_path: Path, idl_here: IdlHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    automatic = [key for key in PROBLEM if key != "device=cpu"]
    done = idl_here(
        "sim", "solver=admm_multigpu", "solver.devices=2", *automatic, "hydra.run.dir=run"
    )
    assert done.status == 2
    assert "solver.devices=2: torch sees no GPU here" in done.errors


def test_a_run_of_one_process_stays_one_where_gpus_are_visible(
    tmp_path: Path, idl_here: IdlHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The solver alone would take them all; the run was given the CPU, or a job one GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "idl_cli.sim.solvers.admm.multigpu.solve_in_spawned_ranks",
        lambda *_: pytest.fail("processes were started for a solve"),
    )
    done = idl_here("sim", "solver=admm_multigpu", *PROBLEM, "hydra.run.dir=run")
    assert done.status == 0, done.errors
    summary: Any = read_summary(tmp_path / "run")
    assert summary["sim"]["ab"]["status"] in ("optimal", "at_precision")


@contextmanager
def _solving(home: Path, plug_in: Path) -> Iterator[Command]:
    """A run whose two ranks are in the middle of a solve that does not end."""
    path = os.pathsep.join((str(plug_in), *filter(None, [os.environ.get("PYTHONPATH")])))
    arguments = ("solver=faulty", "solver.fault=waits", "solver.processes=2", *PROBLEM)
    words = ("sim", *arguments, "hydra.run.dir=run")
    with ending(Command(words, home, {"PYTHONPATH": path})) as process:
        for _ in range(2):
            process.until("solving in")
        yield process


def test_sigterm_ends_every_process_and_is_recorded(tmp_path: Path, plug_in: Path) -> None:
    with _solving(tmp_path, plug_in) as process:
        ranks = descendants(process.pid)
        assert len(ranks) == 2
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 143
    assert errors.endswith("idl: interrupted\n")
    assert errors.count("warning: Faulty ignores the l1 penalty") == 1
    assert all_ended(ranks)
    assert run_status(tmp_path / "run") == "interrupted"


def test_ranks_end_with_a_parent_that_is_killed(tmp_path: Path, plug_in: Path) -> None:
    with _solving(tmp_path, plug_in) as process:
        everyone = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        wait_until(lambda: all_ended(everyone))
        process.communicate()
    assert run_status(tmp_path / "run") == "killed"


NEVER_ENDING = (
    "solver.polish_passes=0",
    "solver.warm_iterations=1",
    "solver.rho=1e4",
    "solver.adapt_every=0",
    "solver.check_every=1",
    "solver.max_iter=1000000000",
    "trainer.checkpoint_seconds=0",
)


def test_a_solve_that_was_killed_is_continued_by_another_number_of_ranks(
    tmp_path: Path, idl_here: IdlHere
) -> None:
    run, kept = tmp_path / "run", tmp_path / "run" / "iterate_ab.safetensors"
    arguments = ("sim", "solver=admm_multigpu", *PROBLEM, "hydra.run.dir=run")
    words = (*arguments, "solver.processes=2", *NEVER_ENDING)
    with ending(Command(words, tmp_path, merged=True)) as process:
        wait_until(lambda: kept.is_file() or process.poll() is not None, limit=100.0)
        assert process.poll() is None
        everyone = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        wait_until(lambda: all_ended(everyone))
    assert run_status(run) == "killed"
    iteration = int(load_file(kept)["numbers"][0])
    done = idl_here(*arguments, "solver.processes=1", "resume=auto")
    assert done.status == 0, done.errors
    assert not kept.exists()
    done = idl_here("sim", "solver=admm", *PROBLEM, "hydra.run.dir=whole")
    assert done.status == 0, done.errors
    found: Any = read_summary(run)
    expected: Any = read_summary(tmp_path / "whole")
    assert found["sim"]["ab"]["status"] == expected["sim"]["ab"]["status"] == "optimal"
    objective = expected["sim"]["ab"]["objective"]
    assert found["sim"]["ab"]["objective"] == pytest.approx(objective, rel=1e-9)
    assert _figures(found) == pytest.approx(_figures(expected), rel=1e-6)
    looks = [row for row in read_metrics(run) if row["split"] == "ab"]
    assert looks[0]["step"] == iteration  # the first look is at what was kept
