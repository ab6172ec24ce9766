"""The plan of a sweep: jobs told by their values, whatever the request looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idl_cli.errors import ConfigError, RunError
from idl_cli.sweeps.jobs import collect_jobs
from idl_cli.sweeps.launcher import consecutive
from idl_cli.sweeps.recorded_plan import planned_jobs, read_plan
from idl_cli.sweeps.resume import Continuation, continuation
from idl_cli.sweeps.sweep_plan import SweepPlan, identity_of


def _plan(directory: Path) -> SweepPlan:
    plan = SweepPlan(directory, "train", ("seed=0,1", "hydra/launcher=joblib"))
    plan.place(["optimizer.lr=1e-2", "seed=0"], repeats=True)
    plan.place(["optimizer.lr=1e-2", "seed=1"], repeats=True)
    plan.save()
    return plan


def test_a_job_is_the_same_however_its_values_are_written() -> None:
    written = ["optimizer.lr=1e-2", "model.kappa=0.5", "resume=auto", "hydra.sweep.subdir=3"]
    assert identity_of(written) == identity_of(["+model.kappa=0.50", "optimizer.lr=0.01"])
    assert identity_of(["seed=1"]) != identity_of(["seed=2"])
    assert identity_of(["solver=cvx"]) != identity_of(["~solver"])


def test_jobs_keep_their_numbers_and_new_ones_follow(tmp_path: Path) -> None:
    _plan(tmp_path)
    plan = read_plan(tmp_path, "train")
    assert plan.jobs[0] == ("optimizer.lr=1e-2", "seed=0")
    assert plan.place(["seed=1", "optimizer.lr=0.010"], repeats=True) == 1
    assert plan.place(["seed=2", "optimizer.lr=0.010"], repeats=True) == 2
    assert plan.statuses() == {0: "new", 1: "new", 2: "new"}


def test_the_same_values_twice_are_two_jobs_of_a_grid_and_one_of_a_sampler(tmp_path: Path) -> None:
    grid, sampler = (SweepPlan(tmp_path, "train", ()) for _ in range(2))
    assert [grid.place(["seed=0"], repeats=True) for _ in range(2)] == [0, 1]
    assert [sampler.place(["seed=0"], repeats=False) for _ in range(2)] == [0, 0]
    grid.save()
    again = read_plan(tmp_path, "train")
    assert [again.place(["seed=0"], repeats=True) for _ in range(2)] == [0, 1]


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps({"command": "train", "jobs": [{}]}))
    with pytest.raises(RunError, match=r"jobs\.json: is not the plan of a sweep"):
        read_plan(tmp_path, "train")


def _ran(directory: Path, number: int, *overrides: str) -> None:
    hydra = directory / str(number) / ".hydra"
    hydra.mkdir(parents=True)
    lines = "".join(f"- {override}\n" for override in overrides)
    (hydra / "overrides.yaml").write_text(lines)


def test_a_plan_that_was_edited_takes_no_result_for_another_job(tmp_path: Path) -> None:
    _plan(tmp_path)
    _ran(tmp_path, 0, "seed=0", "optimizer.lr=0.01")
    _ran(tmp_path, 1, "seed=7", "optimizer.lr=0.01")
    with pytest.raises(RunError, match=r"job 1 is optimizer\.lr=1e-2 seed=1, but what lies in"):
        read_plan(tmp_path, "train")


def test_a_job_that_the_plan_lacks_keeps_its_number(tmp_path: Path) -> None:
    _plan(tmp_path)
    _ran(tmp_path, 2, "seed=2", "~dataset.validation_fraction")
    _ran(tmp_path, 3)  # killed before it could say what it was to run
    plan = read_plan(tmp_path, "train")
    assert plan.place(["~dataset.validation_fraction", "seed=2"], repeats=True) == 2
    assert 3 not in plan.jobs


def test_two_jobs_of_one_number_are_refused(tmp_path: Path) -> None:
    jobs = [{"job": 0, "overrides": [f"seed={seed}"]} for seed in (0, 1)]
    plan = {"command": "train", "request": [], "jobs": jobs}
    (tmp_path / "jobs.json").write_text(json.dumps(plan))
    with pytest.raises(RunError, match="two jobs of one number"):
        read_plan(tmp_path, "train")


@pytest.mark.parametrize("content", ["{a: 1}", "[", "3"])
def test_a_job_with_damaged_records_is_a_failed_one(tmp_path: Path, content: str) -> None:
    _ran(tmp_path, 0, "seed=0")
    (tmp_path / "0" / "summary.json").write_text('{"status": "completed"}')
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text(content)
    (job,) = collect_jobs(tmp_path)
    assert job.status == "failed"
    assert "overrides.yaml" in (job.error or "")


def test_a_sweep_without_a_plan_is_read_from_its_jobs(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text(
        "hydra:\n  job:\n    name: train\n  overrides:\n    task: [seed=0,1]\n"
    )
    for number in (0, 1):
        hydra = tmp_path / str(number) / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text(f"- seed={number}\n")
    plan = read_plan(tmp_path, "train")
    assert plan.jobs == {0: ("seed=0",), 1: ("seed=1",)}
    assert plan.statuses() == {0: "killed", 1: "killed"}


@pytest.mark.parametrize("content", ["", "{", '{"command": "train", "request": ["se', "[]", "\0"])
def test_a_plan_that_was_cut_short_is_taken_from_the_jobs(tmp_path: Path, content: str) -> None:
    (tmp_path / "multirun.yaml").write_text(
        "hydra:\n  job:\n    name: train\n  overrides:\n    task: ['seed=0,1']\n"
    )
    _ran(tmp_path, 0, "seed=0")
    (tmp_path / "jobs.json").write_text(content)
    plan = read_plan(tmp_path, "train")
    assert (plan.request, plan.jobs) == (("seed=0,1",), {0: ("seed=0",)})
    assert "jobs.json" in (plan.damage or "")
    assert [plan.place([f"seed={seed}"], repeats=True) for seed in (0, 1)] == [0, 1]
    (tmp_path / "multirun.yaml").unlink()
    with pytest.raises(RunError, match=r"jobs\.json"):
        read_plan(tmp_path, "train")


def test_a_plan_says_what_a_job_was_whose_own_record_is_damaged(tmp_path: Path) -> None:
    _plan(tmp_path)
    _ran(tmp_path, 0, "seed=0", "optimizer.lr=0.01")
    (tmp_path / "0" / "summary.json").write_text('{"status": "completed"}')
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text("{")
    job = planned_jobs(tmp_path)[0]
    assert (job.status, job.overrides["seed"]) == ("completed", "0")
    assert "overrides.yaml" in (job.error or "")


def test_unfinished_jobs_are_those_without_a_completed_summary(tmp_path: Path) -> None:
    plan = SweepPlan(tmp_path, "train", (), {number: (f"seed={number}",) for number in range(12)})
    for number, status in enumerate(["completed", "failed", None, *["completed"] * 8]):
        (tmp_path / str(number)).mkdir()
        if status:
            summary = json.dumps({"status": status})
            (tmp_path / str(number) / "summary.json").write_text(summary)
    assert plan.unfinished() == [1, 2, 11]


def _continued(directory: Path, *typed: str) -> Continuation:
    found = continuation("train", [f"sweep.resume={directory}", *typed])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("typed", "request_made", "finishes"),
    [
        ((), ("seed=0,1", "hydra/launcher=joblib"), True),
        (("hydra/launcher=basic",), ("seed=0,1", "hydra/launcher=basic"), True),
        (("seed=0,1",), ("hydra/launcher=joblib", "seed=0,1"), True),
        (("threads=1",), ("seed=0,1", "hydra/launcher=joblib", "threads=1"), True),
        (("seed=7",), ("hydra/launcher=joblib", "seed=7"), False),
        (("model=rnn",), ("seed=0,1", "hydra/launcher=joblib", "model=rnn"), False),
        (("~seed",), ("hydra/launcher=joblib",), False),
        (("~model.bias",), ("seed=0,1", "hydra/launcher=joblib", "~model.bias"), False),
    ],
)
def test_a_sweep_goes_on_with_its_request_and_what_is_typed_on_top(
    tmp_path: Path, typed: tuple[str, ...], request_made: tuple[str, ...], finishes: bool
) -> None:
    _plan(tmp_path)
    found = _continued(tmp_path, *typed)
    assert found.overrides == request_made
    assert found.plan.finish is finishes
    assert found.plan.request == ("seed=0,1", "hydra/launcher=joblib"), "what it was begun with"


def test_the_settings_of_a_launcher_go_with_it(tmp_path: Path) -> None:
    request = ("seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    SweepPlan(tmp_path, "train", request).save()
    kept = _continued(tmp_path, "hydra.launcher.n_jobs=4").overrides
    assert kept == ("seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4")
    assert _continued(tmp_path, "hydra/launcher=basic").overrides == (
        "seed=0,1",
        "hydra/launcher=basic",
    )


def test_how_jobs_are_run_makes_no_other_jobs_of_them(tmp_path: Path) -> None:
    _plan(tmp_path)
    _ran(tmp_path, 0, "seed=0", "optimizer.lr=0.01")
    plan = _continued(tmp_path, "device=cpu", "logger=tensorboard").plan
    plan.save()
    assert plan.jobs[1] == ("optimizer.lr=1e-2", "seed=1", "device=cpu", "logger=tensorboard")
    again = _continued(tmp_path, "logger=jsonl").plan
    assert again.jobs[0] == ("optimizer.lr=1e-2", "seed=0", "device=cpu", "logger=jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "trainer.devices=2",
        "deterministic=true",
        "join_timeout=9",
        "profile=true",
        "trainer.checkpoint_every=10",
        "dataset.mirror=https://example.org",
    ],
)
def test_a_value_that_may_change_on_resume_makes_no_new_jobs(tmp_path: Path, text: str) -> None:
    _plan(tmp_path)
    found = _continued(tmp_path, text)
    assert found.new_values == ()
    assert found.plan.finish
    assert found.plan.jobs[1] == ("optimizer.lr=1e-2", "seed=1", text)
    found.plan.save()
    assert found.plan.place(["seed=0", "optimizer.lr=0.01", text], repeats=True) == 0


@pytest.mark.parametrize("text", ["trainer.epochs=9", "trainer.max_time=5", "dataset.file=x.npz"])
def test_another_length_or_other_data_make_new_jobs(tmp_path: Path, text: str) -> None:
    _plan(tmp_path)
    assert _continued(tmp_path, text).new_values == (text,)


def test_how_jobs_were_run_can_be_dropped(tmp_path: Path) -> None:
    plan = SweepPlan(tmp_path, "train", ("seed=0,1", "device=cpu"))
    numbers = [plan.place([f"seed={seed}", "device=cpu"], repeats=True) for seed in (0, 1)]
    plan.save()
    found = _continued(tmp_path, "~device")
    assert found.overrides == ("seed=0,1",)
    again = [found.plan.place([f"seed={seed}"], repeats=True) for seed in (0, 1)]
    assert again == numbers


def test_what_jobs_differ_in_cannot_be_set_for_all_of_them(tmp_path: Path) -> None:
    plan = SweepPlan(tmp_path, "train", ("threads=1,2",))
    for threads in (1, 2):
        plan.place([f"threads={threads}"], repeats=True)
    plan.save()
    with pytest.raises(ConfigError, match=r"threads=4: the jobs of .* told apart by their threads"):
        _continued(tmp_path, "threads=4")


def test_a_sweep_keeps_its_sweeper_and_its_directory(tmp_path: Path) -> None:
    _plan(tmp_path)
    assert _continued(tmp_path, "hydra/sweeper=basic").plan.finish
    with pytest.raises(ConfigError, match=r"was begun with hydra/sweeper=basic"):
        _continued(tmp_path, "hydra/sweeper=optuna")
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir"):
        _continued(tmp_path, "hydra.sweep.dir=elsewhere")
    with pytest.raises(ConfigError, match=r"sweep\.resume=: names no directory"):
        continuation("train", ["seed=7", "sweep.resume="])
    assert continuation("train", ["seed=7", "sweep.resume=null"]) is None


def test_numbers_are_launched_in_runs_without_a_gap() -> None:
    assert list(consecutive([0, 1, 2, 5, 7, 8])) == [[0, 1, 2], [5], [7, 8]]
    assert list(consecutive([])) == []
