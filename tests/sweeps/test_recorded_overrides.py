"""What of a sweep's record is run again: keys of ours, never a command line of somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idl_cli.errors import ConfigError, RunError
from idl_cli.sweeps.recorded_plan import read_plan
from idl_cli.sweeps.resume import continuation
from idl_cli.sweeps.sweep_plan import SweepPlan

SECRET = "hunter2-Ab9"


def record(directory: Path, *request: str, jobs: tuple[str, ...] = ("seed=0",)) -> None:
    """A plan as somebody else may send it."""
    content = {
        "command": "train",
        "request": list(request),
        "jobs": [{"job": number, "overrides": [text]} for number, text in enumerate(jobs)],
    }
    (directory / "jobs.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [
        "hydra.job_logging.handlers.file.filename=/home/me/thesis.tex",
        "++hydra.job_logging.root.handlers=[file]",
        "hydra/job_logging=default",
        "hydra.run.dir=/home/me",
        "hydra.sweep.subdir=../../x",
        "hydra.searchpath=[file:///tmp/evil]",
        "+hydra.callbacks.x._target_=os.system",
        "hydra.launcher._target_=subprocess.run",
        "hydra.launcher.setup=['rm -rf ~']",
        "hydra.launcher.submitit_folder=/home/me",
        "hydra.sweeper._target_=subprocess.run",
        "hydra.sweeper.sampler._target_=subprocess.run",
        "hydra.sweeper.storage=sqlite:////home/me/other.db",
        "hydra.sweeper.custom_search_space=evil.module",
        "hydra.sweeper.params={hydra.run.dir:/home/me}",
        "hydra.job.env_set={LD_PRELOAD:/tmp/evil.so}",
        "hydra.output_subdir=/home/me",
        "+model@hydra.callbacks=implicit",
        "--config-dir=/tmp/evil",
        "--experimental-rerun=/tmp/evil.pickle",
    ],
)
def test_a_foreign_record_is_no_command_line(tmp_path: Path, text: str) -> None:
    record(tmp_path, "seed=0", text)
    with pytest.raises(ConfigError) as refused:
        continuation("train", [f"sweep.resume={tmp_path}"])
    assert refused.value.problems[0].startswith(f"{text}: in the record of {tmp_path}")


@pytest.mark.parametrize("text", ["hydra.run.dir=/home/me", "+hydra/job_logging=x", "--cfg=job"])
def test_a_job_of_a_foreign_record_has_keys_of_ours_alone(tmp_path: Path, text: str) -> None:
    record(tmp_path, "seed=0", jobs=("seed=0", text))
    with pytest.raises(ConfigError, match="as part of a job, which has no such keys"):
        continuation("train", [f"sweep.resume={tmp_path}"])


def test_a_job_does_not_lead_out_of_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    record(sweep, "seed=0")
    (sweep / "0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="leads out of the sweep's directory"):
        continuation("train", [f"sweep.resume={sweep}"])


@pytest.mark.parametrize(
    "text",
    [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweep.dir=sweep",
        "~dataset.validation_fraction",
        "+experiment=x",
    ],
)
def test_a_sweep_of_ones_own_goes_on(tmp_path: Path, text: str) -> None:
    record(tmp_path, "seed=0", text)
    found = continuation("train", [f"sweep.resume={tmp_path}"])
    assert found is not None
    assert found.overrides == ("seed=0", text)


def test_what_is_typed_again_takes_the_place_of_the_record(tmp_path: Path) -> None:
    record(tmp_path, "seed=0", "hydra.launcher.setup=[evil]")
    found = continuation("train", [f"sweep.resume={tmp_path}", "hydra.launcher.setup=[mine]"])
    assert found is not None
    assert found.overrides == ("seed=0", "hydra.launcher.setup=[mine]")


# -- secrets ---------------------------------------------------------------------------------------


def test_a_plan_keeps_no_secret_and_takes_it_again(tmp_path: Path) -> None:
    uri = f"logger.tracking_uri='https://me:{SECRET}@host'"
    key = f"+model.api_key={SECRET}"
    plan = SweepPlan(tmp_path, "train", ("seed=0", uri, key))
    plan.place(["seed=0", uri, key], repeats=True)
    plan.save()
    assert plan.jobs[0] == ("seed=0", uri, key), "the jobs of this process have it"
    assert SECRET not in (tmp_path / "jobs.json").read_text()
    with pytest.raises(ConfigError) as refused:
        continuation("train", [f"sweep.resume={tmp_path}"])
    text = str(refused.value)
    assert "give logger.tracking_uri=VALUE again" in text
    assert "give model.api_key=VALUE again" in text
    found = continuation("train", [f"sweep.resume={tmp_path}", uri, key])
    assert found is not None
    assert found.new_values == (), "a secret given again is no other request"
    assert set(found.overrides) == {"seed=0", uri, key}
    assert found.plan.place(["seed=0", uri, key], repeats=True) == 0
    assert found.plan.jobs[0] == ("seed=0", uri, key)


# -- damage ----------------------------------------------------------------------------------------


def test_every_bit_of_a_plan_counts(tmp_path: Path) -> None:
    plan = SweepPlan(tmp_path, "train", ("seed=0,1",))
    plan.place(["seed=0"], repeats=True)
    plan.save()
    file = tmp_path / "jobs.json"
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            found = read_plan(tmp_path, "train")
        except RunError:
            continue
        assert (found.request, found.jobs) == (plan.request, plan.jobs), f"bit {bit} was believed"


def test_a_plan_corrected_by_hand_is_read_without_its_checksum(tmp_path: Path) -> None:
    plan = SweepPlan(tmp_path, "train", ("seed=0,1",))
    plan.place(["seed=0"], repeats=True)
    plan.save()
    content = json.loads((tmp_path / "jobs.json").read_text())
    content["jobs"][0]["overrides"] = ["seed=5"]
    (tmp_path / "jobs.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"jobs\.json: damaged, or edited: .*take the line sha256"):
        read_plan(tmp_path, "train")
    del content["sha256"]
    (tmp_path / "jobs.json").write_text(json.dumps(content))
    assert read_plan(tmp_path, "train").jobs == {0: ("seed=5",)}
