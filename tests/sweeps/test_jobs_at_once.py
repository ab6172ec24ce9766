"""Sweeps and their jobs as processes: killed, interrupted, terminated, and continued."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from idl_cli.jobs.parallel import cores
from idl_cli.run.lock import is_locked
from tests.commands.helpers import summary_of
from tests.conftest import IdlHere
from tests.forking import Command
from tests.sweeps import flaky
from tests.sweeps.helpers import (
    OF_SMALL_FITS,
    SMALL,
    Start,
    statuses,
    table_of,
    untouched,
    wait_for,
)

HALF = max(1, cores() // 2)
"""Cores that let two jobs of a local submitit run at once."""

pytestmark = [pytest.mark.slow, OF_SMALL_FITS]


@pytest.mark.usefixtures("flaky_solvers")
def test_two_jobs_at_once_survive_one_that_is_killed(
    start: Start, tmp_path: Path, teacher: Path
) -> None:
    process = start(
        "sim",
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "solver=killed,active_set",
        *SMALL[:-1],
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
    )
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "2 jobs, 2 at a time, 1 thread each" in output
    sweep = tmp_path / "sweep"
    assert statuses(sweep) == ["failed", "completed"]
    assert summary_of(sweep / "0")["error"].startswith("killed: ")
    assert "killed: " in (sweep / "0" / "run.log").read_text()
    threads = json.loads((sweep / "1" / "environment.json").read_text())["threads"]
    assert threads == 1
    (tmp_path / flaky.HEALED).touch()
    with untouched(sweep / "1"):
        process = start("sim", "-m", "sweep.resume=sweep")
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "1 finished and kept; 1 failed, run again" in output
    assert statuses(sweep) == ["completed"] * 2


@pytest.mark.usefixtures("flaky_solvers")
def test_jobs_of_submitit_survive_a_kill_and_a_return_to_the_queue(
    idl_here: IdlHere, start: Start, tmp_path: Path, teacher: Path
) -> None:
    process = start(
        "sim",
        "-m",
        "hydra/launcher=submitit_local",
        "solver=killed,hanging",
        *SMALL,
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
    )
    sweep = tmp_path / "sweep"
    wait_for((tmp_path / flaky.HANGING).exists, process)
    wait_for(lambda: (sweep / "0" / ".lock").exists() and not is_locked(sweep / "0"), process)
    (tmp_path / flaky.HEALED).touch()
    # What a cluster sends before it takes a machine away from a job.
    os.kill(json.loads((sweep / "1" / ".lock").read_text())["pid"], signal.SIGUSR2)
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert statuses(sweep) == ["failed", "completed"]
    assert summary_of(sweep / "0")["error"].startswith("killed: ")
    assert "put back into the queue" in (sweep / "1" / "run.log").read_text()
    assert list((sweep / ".submitit").rglob("*_submitted.pkl"))
    with untouched(sweep / "1"):
        done = idl_here("sim", "-m", "sweep.resume=sweep", "hydra/launcher=basic")
    assert done.status == 0, done.errors
    assert statuses(sweep) == ["completed"] * 2


def _stop(number: signal.Signals, start: Start, tmp_path: Path, teacher: Path) -> Command:
    """Start a sweep of three jobs and send it a signal while the second one works."""
    process = start(
        "sim",
        "-m",
        "solver=least_squares,hanging,active_set",
        *SMALL,
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
    )
    wait_for((tmp_path / flaky.HANGING).exists, process)
    process.send_signal(number)
    process.communicate()
    return process


@pytest.mark.usefixtures("flaky_solvers")
def test_a_sweep_that_was_killed_goes_on(
    idl_here: IdlHere, start: Start, tmp_path: Path, teacher: Path
) -> None:
    _stop(signal.SIGKILL, start, tmp_path, teacher)
    Path(flaky.HEALED).touch()
    sweep = tmp_path / "sweep"
    with untouched(sweep / "0"):
        done = idl_here("sim", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "1 finished and kept; 1 killed, run again; 1 new" in done.output
    assert statuses(sweep) == ["completed"] * 3


@pytest.mark.usefixtures("flaky_solvers")
def test_a_sweep_that_is_terminated_leaves_its_table(
    start: Start, tmp_path: Path, teacher: Path
) -> None:
    process = _stop(signal.SIGTERM, start, tmp_path, teacher)
    assert process.returncode == 143
    sweep = tmp_path / "sweep"
    assert statuses(sweep) == ["completed", "interrupted", "not started"]
    assert [row["solver"] for row in table_of(sweep)] == ["least_squares", "hanging", "active_set"]


@pytest.mark.usefixtures("flaky_solvers")
@pytest.mark.parametrize(
    ("launcher", "two_at_once", "from_terminal"),
    [
        ("joblib", "n_jobs=2", True),
        ("joblib", "n_jobs=2", False),
        pytest.param(
            "submitit_local",
            f"cpus_per_task={HALF}",
            True,
            marks=pytest.mark.skipif(cores() // HALF != 2, reason="not two jobs fit at once"),
        ),
    ],
)
def test_ctrl_c_interrupts_the_jobs_that_run_at_once(
    start: Start,
    idl_here: IdlHere,
    tmp_path: Path,
    teacher: Path,
    launcher: str,
    two_at_once: str,
    from_terminal: bool,
) -> None:
    sweep = tmp_path / "sweep"
    process = start(
        "sim",
        "-m",
        f"hydra/launcher={launcher}",
        f"hydra.launcher.{two_at_once}",
        "solver=hanging",
        "trainer.lambda_z=0.1,0.2,0.3,0.4",
        *SMALL[:-1],
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
        session=True,
    )
    wait_for((tmp_path / flaky.HANGING).exists, process)
    wait_for(lambda: all(is_locked(sweep / job) for job in "01"), process)
    if from_terminal:  # which sends it to the workers too
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not any(is_locked(sweep / job) for job in "01")
    assert statuses(sweep) == ["interrupted"] * 2 + ["not started"] * 2
    for job in "01":
        assert "interrupted" in (sweep / job / "run.log").read_text()
    assert not (sweep / "2").exists()
    (tmp_path / flaky.HEALED).touch()
    done = idl_here("sim", "sweep.resume=sweep", "hydra/launcher=basic")
    assert done.status == 0, done.errors
    assert "2 interrupted, run again; 2 new" in done.output
    assert statuses(sweep) == ["completed"] * 4


@pytest.mark.parametrize(
    ("launcher", "two_at_once"), [("joblib", "n_jobs=2"), ("submitit_local", "cpus_per_task=1")]
)
@pytest.mark.usefixtures("flaky_solvers")
def test_jobs_die_with_the_sweep_that_was_killed(
    start: Start, tmp_path: Path, teacher: Path, launcher: str, two_at_once: str
) -> None:
    """SIGINT is ignored, as in the background of a script: it changes nothing for any process."""
    sweep = tmp_path / "sweep"
    process = start(
        "sim",
        "-m",
        f"hydra/launcher={launcher}",
        f"hydra.launcher.{two_at_once}",
        "solver=hanging",
        "trainer.lambda_z=0.1,0.2",
        *SMALL[:-1],
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
        session=True,
        deaf=True,
    )
    wait_for((tmp_path / flaky.HANGING).exists, process)
    wait_for(lambda: any(is_locked(sweep / job) for job in "01"), process)
    os.killpg(process.pid, signal.SIGINT)
    assert any(is_locked(sweep / job) for job in "01")
    process.kill()
    deadline = time.monotonic() + 60  # they hang for good where nobody ends them
    while any(is_locked(sweep / job) for job in "01"):
        assert time.monotonic() < deadline, "a job outlived its sweep"
        time.sleep(0.05)
    process.communicate()
    assert not (sweep / "0" / "summary.json").exists()
