"""Sweeps as users run them: jobs that fail in every way, and all that is continued afterwards."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from idl_cli.cli import main
from idl_cli.jobs.parallel import cores
from idl_cli.run.lock import RunLock, is_locked
from tests.conftest import IdlHere
from tests.sweeps import flaky

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "teacher.hidden_dims=[12,8]",
    "dataset.train_samples=200",
    "dataset.test_samples=60",
    "report=false",
    "threads=1",
)
TRAINED = (*SMALL, "teacher.epochs=8", "teacher.batch_size=32", "teacher.lr=1e-2")
LITTLE = (
    "model.hidden_dim=8",
    "dataset.train_samples=100",
    "dataset.test_samples=40",
    "trainer.batch_size=50",
    "report=false",
    "threads=1",
)
HALF = max(1, cores() // 2)
"""Cores that let two jobs of a local submitit run at once."""

pytestmark = pytest.mark.filterwarnings(  # least squares ignores λ, projected_gd is not exact
    "default::idl_cli.errors.IgnoredOptionWarning",
    "default::idl_cli.errors.ConvergenceWarning",
    "default::idl_cli.errors.PoorFitWarning",  # of λ chosen to give few weights
    # Of the SQLAlchemy that Hydra's Optuna needs, at whichever test imports it first.
    "ignore:Deprecated API features detected:DeprecationWarning",
)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher all sweeps here take, so that none trains its own."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    assert main(["sim", *TRAINED, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture
def flaky_solvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers that misbehave, here and in every process started from here."""
    site = tmp_path / "site"
    flaky.install(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*arguments)``: the command as a process that the test may kill."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, start_new_session: bool = False) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "idl_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=start_new_session,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _statuses(sweep: Path) -> list[str]:
    return [row["status"] for row in _rows(sweep)]


def _summary(job: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((job / "summary.json").read_text())
    return summary


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never came that far"
        time.sleep(0.02)


@contextmanager
def _untouched(*jobs: Path) -> Iterator[None]:
    """Assert that nothing in these jobs' directories is written meanwhile."""

    def written() -> dict[Path, int]:
        return {
            file: file.stat().st_mtime_ns
            for job in jobs
            for file in job.rglob("*")
            if file.is_file()
        }

    before = written()
    assert before
    yield
    assert written() == before


@pytest.mark.usefixtures("flaky_solvers")
def test_solvers_and_penalties_in_one_table_with_a_failure_that_is_run_again(
    idl_here: IdlHere, tmp_path: Path, teacher: Path
) -> None:
    solvers = "cvx,admm,active_set,projected_gd,least_squares"
    grid = (
        f"solver={solvers},raising,greedy",
        "trainer.lambda_z=1e-2,1",
        *SMALL,
        f"teacher.run={teacher}",
    )
    done = idl_here("sim", "-m", *grid, "optimized_metric=test_accuracy", "hydra.sweep.dir=sweep")
    assert done.status == 1
    assert "4 of 14 jobs failed: 10, 11, 12, 13" in done.errors
    sweep = tmp_path / "sweep"
    rows = _rows(sweep)
    assert [row["status"] for row in rows] == ["completed"] * 10 + ["failed"] * 4
    assert "not today" in rows[10]["error"]
    assert rows[12]["error"].startswith("out of memory: tried to allocate")
    for job in (10, 12):
        assert rows[job]["error"] in (sweep / str(job) / "run.log").read_text()
        assert _summary(sweep / str(job))["error"] == rows[job]["error"]
    assert {"sim.nonzero_fraction", "sim.ab.relative_gap", "test_accuracy"} <= rows[0].keys()
    assert "dataset.train_samples" not in rows[0], "the same in all jobs"

    table = done.output[done.output.index("sweep, best test_accuracy first") :]
    ranked, _, failed = table.partition("not completed")
    order = [line.split()[0] for line in ranked.splitlines() if line.strip()[:1].isdigit()]
    scores = [float(rows[int(job)]["test_accuracy"]) for job in order]
    assert sorted(order, key=int) == [str(job) for job in range(10)]
    assert scores == sorted(scores, reverse=True)
    assert "not today" in failed

    Path(flaky.HEALED).touch()
    with _untouched(*(sweep / str(job) for job in range(10))):
        done = idl_here("sim", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "10 finished and kept; 4 failed, run again" in done.output
    assert _statuses(sweep) == ["completed"] * 14

    with _untouched(*(sweep / str(job) for job in range(14))):
        done = idl_here(
            "sim",
            "-m",
            "sweep.resume=sweep",
            "solver=least_squares",
            "trainer.lambda_z=0.010,0.5",
        )
    assert done.status == 0, done.errors
    assert "1 finished and kept; 1 new; 13 not asked for" in done.output
    added = _rows(sweep)[14]
    assert (added["solver"], added["trainer.lambda_z"]) == ("least_squares", "0.5")
    teacher_of = [
        OmegaConf.load(sweep / job / ".hydra" / "config.yaml").teacher.run for job in ("0", "14")
    ]
    assert teacher_of[0] == teacher_of[1], "the rest of the request is kept"


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.filterwarnings("default:.*the run goes on without it:UserWarning")
def test_damaged_records_cost_no_job_and_no_table(idl_here: IdlHere, tmp_path: Path) -> None:
    request = ("seed=0,1,2", *LITTLE, "trainer.epochs=1", "hydra.sweep.dir=sweep")
    assert idl_here("train", "-m", *request).status == 0
    jobs = [tmp_path / "sweep" / str(number) for number in range(3)]
    found = [_summary(job)["metrics"] for job in jobs]
    plan = tmp_path / "sweep" / "jobs.json"
    plan.write_bytes(plan.read_bytes()[:99])
    (jobs[1] / "summary.json").write_text('{"status": "com')
    _flip_a_bit(jobs[1] / "checkpoints" / "last.safetensors")
    (jobs[2] / "summary.json").unlink()
    (jobs[2] / "metrics.jsonl").write_text("{x\n")
    with _untouched(jobs[0]):
        done = idl_here("train", "-m", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert _statuses(tmp_path / "sweep") == ["completed"] * 3
    assert [_summary(job)["metrics"] for job in jobs] == found
    lines = done.errors.splitlines()
    for name in ("jobs.json", "summary.json", "last.safetensors", "metrics.jsonl"):
        assert len([line for line in lines if f"{name}: " in line]) == 1


@pytest.mark.usefixtures("flaky_solvers")
def test_values_added_to_a_sweep_do_not_forget_its_failures(
    idl_here: IdlHere, start: Start, tmp_path: Path, teacher: Path
) -> None:
    sweep, fixed = tmp_path / "sweep", (*SMALL, f"teacher.run={teacher}", "hydra.sweep.dir=sweep")
    assert idl_here("sim", "-m", "solver=raising,least_squares", *fixed).status == 1
    with _untouched(sweep / "0", sweep / "1"):
        done = idl_here("sim", "sweep.resume=sweep", "trainer.lambda_z=0.5", "solver=active_set")
    assert done.status == 0, done.errors
    assert "job 0: asked for before and not complete" in done.output
    with _untouched(sweep / "0", sweep / "1", sweep / "2"):
        done = idl_here("sim", "sweep.resume=sweep", "solver=greedy")
    assert done.status == 1
    assert "1 of 1 jobs failed: 3" in done.errors
    done = idl_here("sim", "sweep.resume=sweep", "solver=actve_set", "solver.rho=1")
    assert done.status == 2
    assert "sweep.resume=sweep keeps what the sweep was asked for (solver=raising," in done.errors
    Path(flaky.HEALED).touch()
    with _untouched(sweep / "1", sweep / "2"):
        # In a process of its own, which has not seen yet what was added to the sweep.
        process = start("sim", "sweep.resume=sweep", "device=cpu", "optimized_metric=test_loss")
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "2 finished and kept; 2 failed, run again" in output
    assert _statuses(sweep) == ["completed"] * 4
    assert "sweep, best test_loss first" in output
    rows = _rows(sweep)
    assert [row["trainer.lambda_z"] for row in rows] == ["", "", "0.5", ""]
    assert not {"device", "optimized_metric"} & rows[0].keys(), "how jobs ran is no other job"


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
    assert _statuses(sweep) == ["failed", "completed"]
    assert _summary(sweep / "0")["error"].startswith("killed: ")
    assert "killed: " in (sweep / "0" / "run.log").read_text()
    threads = json.loads((sweep / "1" / "environment.json").read_text())["threads"]
    assert threads == 1
    (tmp_path / flaky.HEALED).touch()
    with _untouched(sweep / "1"):
        process = start("sim", "-m", "sweep.resume=sweep")
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "1 finished and kept; 1 failed, run again" in output
    assert _statuses(sweep) == ["completed"] * 2


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
    _wait_for((tmp_path / flaky.HANGING).exists, process)
    _wait_for(lambda: (sweep / "0" / ".lock").exists() and not is_locked(sweep / "0"), process)
    (tmp_path / flaky.HEALED).touch()
    # What a cluster sends before it takes a machine away from a job.
    os.kill(json.loads((sweep / "1" / ".lock").read_text())["pid"], signal.SIGUSR2)
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert _statuses(sweep) == ["failed", "completed"]
    assert _summary(sweep / "0")["error"].startswith("killed: ")
    assert "put back into the queue" in (sweep / "1" / "run.log").read_text()
    assert list((sweep / ".submitit").rglob("*_submitted.pkl"))
    with _untouched(sweep / "1"):
        done = idl_here("sim", "-m", "sweep.resume=sweep", "hydra/launcher=basic")
    assert done.status == 0, done.errors
    assert _statuses(sweep) == ["completed"] * 2


def _stop(
    number: signal.Signals, start: Start, tmp_path: Path, teacher: Path
) -> subprocess.Popen[str]:
    """Start a sweep of three jobs and send it a signal while the second one works."""
    process = start(
        "sim",
        "-m",
        "solver=least_squares,hanging,active_set",
        *SMALL,
        f"teacher.run={teacher}",
        "hydra.sweep.dir=sweep",
    )
    _wait_for((tmp_path / flaky.HANGING).exists, process)
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
    with _untouched(sweep / "0"):
        done = idl_here("sim", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "1 finished and kept; 1 killed, run again; 1 new" in done.output
    assert _statuses(sweep) == ["completed"] * 3


@pytest.mark.usefixtures("flaky_solvers")
def test_a_sweep_that_is_terminated_leaves_its_table(
    start: Start, tmp_path: Path, teacher: Path
) -> None:
    process = _stop(signal.SIGTERM, start, tmp_path, teacher)
    assert process.returncode == 143
    sweep = tmp_path / "sweep"
    assert _statuses(sweep) == ["completed", "interrupted", "not started"]
    assert [row["solver"] for row in _rows(sweep)] == ["least_squares", "hanging", "active_set"]


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
        start_new_session=True,
    )
    _wait_for((tmp_path / flaky.HANGING).exists, process)
    _wait_for(lambda: all(is_locked(sweep / job) for job in "01"), process)
    if from_terminal:  # which sends it to the workers too
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not any(is_locked(sweep / job) for job in "01")
    assert _statuses(sweep) == ["interrupted"] * 2 + ["not started"] * 2
    for job in "01":
        assert "interrupted" in (sweep / job / "run.log").read_text()
    assert not (sweep / "2").exists()
    (tmp_path / flaky.HEALED).touch()
    done = idl_here("sim", "sweep.resume=sweep", "hydra/launcher=basic")
    assert done.status == 0, done.errors
    assert "2 interrupted, run again; 2 new" in done.output
    assert _statuses(sweep) == ["completed"] * 4


@pytest.mark.parametrize(
    ("launcher", "two_at_once"), [("joblib", "n_jobs=2"), ("submitit_local", "cpus_per_task=1")]
)
@pytest.mark.usefixtures("flaky_solvers")
def test_jobs_die_with_the_sweep_that_was_killed(
    start: Start, tmp_path: Path, teacher: Path, launcher: str, two_at_once: str
) -> None:
    """SIGINT is ignored, as in the background of a script: it changes nothing for any process."""
    sweep = tmp_path / "sweep"
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
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
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, ignored)
    _wait_for((tmp_path / flaky.HANGING).exists, process)
    _wait_for(lambda: any(is_locked(sweep / job) for job in "01"), process)
    os.killpg(process.pid, signal.SIGINT)
    assert any(is_locked(sweep / job) for job in "01")
    process.kill()
    deadline = time.monotonic() + 60  # they hang for good where nobody ends them
    while any(is_locked(sweep / job) for job in "01"):
        assert time.monotonic() < deadline, "a job outlived its sweep"
        time.sleep(0.05)
    process.communicate()
    assert not (sweep / "0" / "summary.json").exists()


@pytest.mark.parametrize("lock", [".", "1"])
def test_a_sweep_that_still_runs_is_refused(idl_here: IdlHere, tmp_path: Path, lock: str) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "1").mkdir(parents=True)
    jobs = [{"job": job, "overrides": []} for job in (0, 1)]
    plan = {"command": "sim", "request": ["seed=0,1"], "jobs": jobs}
    (sweep / "jobs.json").write_text(json.dumps(plan))
    held = RunLock(sweep / lock)
    try:
        done = idl_here("sim", "-m", "sweep.resume=sweep")
    finally:
        held.release()
    assert done.status == 1
    assert "still running" in done.errors


def test_a_directory_that_cannot_be_continued_is_refused(idl_here: IdlHere, tmp_path: Path) -> None:
    plan = {"command": "sim", "request": [], "jobs": []}
    (tmp_path / "sims").mkdir()
    (tmp_path / "sims" / "jobs.json").write_text(json.dumps(plan))
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    for directory, sentence in {
        "sims": "a sweep of `idl sim`, this is `idl train`",
        "run": "holds a single run",
        "nowhere": "no such directory",
    }.items():
        done = idl_here("train", "-m", f"sweep.resume={directory}")
        assert done.status == 2
        assert sentence in done.errors


# -- studies ---------------------------------------------------------------------------------------

STUDY = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=4",
    "hydra.sweeper.sampler.seed=1",
    "optimizer.lr=tag(log,interval(1e-3,1e-1))",
    "optimized_metric=test_loss",
    "hydra.sweep.dir=sweep",
    *LITTLE,
)


def _trials(sweep: Path) -> list[Any]:
    optuna = pytest.importorskip("optuna")
    return list(optuna.load_study(study_name="train", storage=f"sqlite:///{sweep}/study.db").trials)


def test_a_study_that_was_killed_goes_on(idl_here: IdlHere, start: Start, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    process = start("train", "-m", *STUDY, "trainer.epochs=40")
    _wait_for((sweep / "1" / "checkpoints" / "last.safetensors").exists, process)
    process.kill()
    output, _ = process.communicate()
    assert "alembic" not in output
    assert [trial.state.name for trial in _trials(sweep)] == ["COMPLETE", "RUNNING"]
    with _untouched(sweep / "0"):
        done = idl_here("train", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "1 of 4 trials complete, 3 to run" in done.output
    assert f"resumed {sweep / '1'} at step" in done.output, "where it was, in its own directory"
    rows = _rows(sweep)
    assert [row["job"] for row in rows] == ["0", "1", "2", "3"]
    assert len({row["optimizer.lr"] for row in rows}) == 4, "no point comes twice"
    complete = [trial for trial in _trials(sweep) if trial.state.name == "COMPLETE"]
    assert [trial.value for trial in complete] == [float(row["test_loss"]) for row in rows]
    best = min(rows, key=lambda row: float(row["test_loss"]))
    assert f"Best value: {best['test_loss']}" in done.output, "less of a loss is better"

    done = idl_here("train", "sweep.resume=sweep", "threads=1")
    assert done.status == 0, done.errors
    assert "4 of 4 trials complete, 0 to run" in done.output
    assert len(_trials(sweep)) == 5

    done = idl_here("train", "sweep.resume=sweep", "hydra.sweeper.n_trials=5")
    assert done.status == 0, done.errors
    assert "4 of 5 trials complete, 1 to run" in done.output, "the one run twice counts once"
    assert len(_rows(sweep)) == 5

    done = idl_here("train", "sweep.resume=sweep", "trainer.epochs=1")
    assert done.status == 2
    assert "trainer.epochs=1: the trials of a study are compared with each other" in done.errors


def test_failing_trials_do_not_end_a_study(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "train",
        "-m",
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.n_trials=3",
        "model.hidden_dim=8,2147483647",
        "hydra.sweep.dir=sweep",
        *LITTLE[1:],
        "trainer.epochs=1",
    )
    assert done.status == 1
    assert "1 of 2 jobs failed" in done.errors
    states = sorted(trial.state.name for trial in _trials(tmp_path / "sweep"))
    assert states == ["COMPLETE", "FAIL"]


def test_a_study_without_a_figure_to_improve_is_refused(idl_here: IdlHere) -> None:
    done = idl_here("train", "-m", *STUDY[:4], "dataset.validation_fraction=0")
    assert done.status == 2
    assert "optimized_metric: a study needs a figure" in done.errors
