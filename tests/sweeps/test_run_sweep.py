"""Sweeps as users run them: jobs that fail in every way, and all that is continued afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from idl_cli.run.lock import RunLock
from tests.commands.helpers import summary_of
from tests.conftest import IdlHere
from tests.sweeps import flaky
from tests.sweeps.helpers import LITTLE, OF_SMALL_FITS, SMALL, Start, statuses, table_of, untouched

pytestmark = [pytest.mark.slow, OF_SMALL_FITS]


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
    rows = table_of(sweep)
    assert [row["status"] for row in rows] == ["completed"] * 10 + ["failed"] * 4
    assert "not today" in rows[10]["error"]
    assert rows[12]["error"].startswith("out of memory: tried to allocate")
    for job in (10, 12):
        assert rows[job]["error"] in (sweep / str(job) / "run.log").read_text()
        assert summary_of(sweep / str(job))["error"] == rows[job]["error"]
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
    with untouched(*(sweep / str(job) for job in range(10))):
        done = idl_here("sim", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert "10 finished and kept; 4 failed, run again" in done.output
    assert statuses(sweep) == ["completed"] * 14

    with untouched(*(sweep / str(job) for job in range(14))):
        done = idl_here(
            "sim",
            "-m",
            "sweep.resume=sweep",
            "solver=least_squares",
            "trainer.lambda_z=0.010,0.5",
        )
    assert done.status == 0, done.errors
    assert "1 finished and kept; 1 new; 13 not asked for" in done.output
    added = table_of(sweep)[14]
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
    found = [summary_of(job)["metrics"] for job in jobs]
    plan = tmp_path / "sweep" / "jobs.json"
    plan.write_bytes(plan.read_bytes()[:99])
    (jobs[1] / "summary.json").write_text('{"status": "com')
    _flip_a_bit(jobs[1] / "checkpoints" / "last.safetensors")
    (jobs[2] / "summary.json").unlink()
    (jobs[2] / "metrics.jsonl").write_text("{x\n")
    with untouched(jobs[0]):
        done = idl_here("train", "-m", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert statuses(tmp_path / "sweep") == ["completed"] * 3
    assert [summary_of(job)["metrics"] for job in jobs] == found
    lines = done.errors.splitlines()
    for name in ("jobs.json", "summary.json", "last.safetensors", "metrics.jsonl"):
        assert len([line for line in lines if f"{name}: " in line]) == 1


def test_a_job_that_was_interrupted_at_once_is_run_again(idl_here: IdlHere, tmp_path: Path) -> None:
    """Ctrl-C came between its lock and the record of its request."""
    job = tmp_path / "sweep" / "0"
    request = ("seed=0", "optimizer.lr=1e-3", *LITTLE, "trainer.epochs=1")
    assert idl_here("train", "-m", *request, "hydra.sweep.dir=sweep").status == 0
    found = summary_of(job)["metrics"]
    shutil.rmtree(job)
    job.mkdir()
    begun = {"command": "train", "status": "interrupted", "seed": 0, "seconds": 0.03, "metrics": {}}
    (job / "summary.json").write_text(json.dumps(begun))
    done = idl_here("train", "sweep.resume=sweep")
    assert done.status == 0, done.errors
    assert summary_of(job)["metrics"] == found


@pytest.mark.usefixtures("flaky_solvers")
def test_values_added_to_a_sweep_do_not_forget_its_failures(
    idl_here: IdlHere, start: Start, tmp_path: Path, teacher: Path
) -> None:
    sweep, fixed = tmp_path / "sweep", (*SMALL, f"teacher.run={teacher}", "hydra.sweep.dir=sweep")
    assert idl_here("sim", "-m", "solver=raising,least_squares", *fixed).status == 1
    with untouched(sweep / "0", sweep / "1"):
        done = idl_here("sim", "sweep.resume=sweep", "trainer.lambda_z=0.5", "solver=active_set")
    assert done.status == 0, done.errors
    assert "job 0: asked for before and not complete" in done.output
    with untouched(sweep / "0", sweep / "1", sweep / "2"):
        done = idl_here("sim", "sweep.resume=sweep", "solver=greedy")
    assert done.status == 1
    assert "1 of 1 jobs failed: 3" in done.errors
    done = idl_here("sim", "sweep.resume=sweep", "solver=actve_set", "solver.rho=1")
    assert done.status == 2
    assert "sweep.resume=sweep keeps what the sweep was asked for (solver=raising," in done.errors
    Path(flaky.HEALED).touch()
    with untouched(sweep / "1", sweep / "2"):
        # In a process of its own, which has not seen yet what was added to the sweep.
        process = start("sim", "sweep.resume=sweep", "device=cpu", "optimized_metric=test_loss")
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "2 finished and kept; 2 failed, run again" in output
    assert statuses(sweep) == ["completed"] * 4
    assert "sweep, best test_loss first" in output
    rows = table_of(sweep)
    assert [row["trainer.lambda_z"] for row in rows] == ["", "", "0.5", ""]
    assert not {"device", "optimized_metric"} & rows[0].keys(), "how jobs ran is no other job"


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
