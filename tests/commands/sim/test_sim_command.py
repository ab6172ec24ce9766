"""``idl sim`` as a user meets it: a command, a run directory, an exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli import load_model
from idl_cli.models.explicit import MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.run import load_run, read_metrics
from tests.commands.helpers import summary_of
from tests.conftest import IdlHere

QUICK = (
    "teacher.hidden_dims=[16,8]",
    "teacher.epochs=15",
    "teacher.batch_size=32",
    "teacher.lr=1e-2",
    "dataset.train_samples=600",
)
"""A small problem that is learnt all the same; the digits' 64 inputs stay."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of small size with everything on, as a process, and what it printed."""
    import sys

    home = tmp_path_factory.mktemp("sim")
    arguments = ["sim", *QUICK, "hydra.run.dir=run", "threads=1", "trainer.save_statistics=true"]
    done = subprocess.run(
        [sys.executable, "-m", "idl_cli", *arguments, "trainer.diagnose_rows=true"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home / "run", done.stdout


def test_a_run_leaves_its_contract(finished: tuple[Path, str]) -> None:
    run, shown = finished
    summary = summary_of(run)
    assert summary["command"] == "sim"
    assert summary["status"] == "completed"
    assert {"test_accuracy", "test_loss", "train_accuracy"} <= summary["metrics"].keys()
    sim = summary["sim"]
    assert sim["solver"] == "active_set"
    assert sim["agreement"] > 0.9
    assert sim["samples"] == 540  # a tenth of 600 is the validation part
    for stage in ("ab", "cd"):
        assert sim[stage]["status"] in ("optimal", "at_precision")
        assert sim[stage]["relative_gap"] <= 1e-6
    for said in ("agreement", "non-zero", "||A||_inf", "optimal", "seconds"):
        assert said in shown
    for name in ("gap.png", "sparsity.png", "rows.json", "statistics.safetensors", "run.log"):
        assert (run / name).stat().st_size > 0
    rows = json.loads((run / "rows.json").read_text())
    assert (len(rows["ab"]), len(rows["cd"])) == (24, 10)


def test_the_model_is_an_ordinary_one(finished: tuple[Path, str]) -> None:
    run, _ = finished
    model = load_model(run)
    assert isinstance(model, ImplicitModel)
    norms = model.A.detach().double().abs().sum(dim=1)
    assert float(norms.max()) <= 0.95
    assert summary_of(run)["sim"]["inf_norm_A"] == pytest.approx(float(norms.max()))


def test_the_convergence_is_written_down(finished: tuple[Path, str]) -> None:
    run, _ = finished
    rows = read_metrics(run)
    last = {row["split"]: row for row in rows}
    assert {"ab", "cd", "train", "validation", "test"} <= last.keys()
    assert last["ab"]["relative_gap"] <= 1e-6  # type: ignore[operator]
    assert last["test"]["accuracy"] == summary_of(run)["metrics"]["test_accuracy"]


def test_the_teacher_is_kept_and_taken_again(finished: tuple[Path, str], idl_here: IdlHere) -> None:
    run, _ = finished
    kept = load_run(run / "teacher")
    assert isinstance(kept.model, MLP)
    done = idl_here(
        "sim",
        *QUICK,
        f"teacher.run={run}",
        f"trainer.load_statistics={run / 'statistics.safetensors'}",
        f"hydra.run.dir={run.parent / 'again'}",
        "threads=1",
    )
    assert done.status == 0, done.errors
    again = run.parent / "again"
    assert not (again / "teacher").exists()
    assert torch.equal(load_model(again).A, load_model(run).A)  # type: ignore[arg-type]
    assert summary_of(again)["metrics"] == summary_of(run)["metrics"]


def test_statistics_of_another_teacher_are_refused(
    finished: tuple[Path, str], idl_here: IdlHere
) -> None:
    run, _ = finished
    done = idl_here(
        "sim",
        *QUICK,
        "seed=1",
        f"trainer.load_statistics={run / 'statistics.safetensors'}",
        f"hydra.run.dir={run.parent / 'other'}",
    )
    assert done.status == 1
    assert "what differs: the teacher's weights" in done.errors
    assert "Traceback" not in done.errors


def test_an_implicit_model_can_teach_and_be_trained_on(
    finished: tuple[Path, str], idl_here: IdlHere
) -> None:
    run, _ = finished
    taught = run.parent / "taught"
    done = idl_here(
        "sim", QUICK[-1], "teacher=run", f"teacher.run={run}", f"hydra.run.dir={taught}"
    )
    assert done.status == 0, done.errors
    assert summary_of(taught)["sim"]["agreement"] > 0.9
    assert summary_of(taught)["sim"]["rescaled"] is False
    tuned = run.parent / "tuned"
    done = idl_here(
        "train",
        "dataset.train_samples=600",
        f"model.init_run={run}",
        "trainer.epochs=1",
        "trainer.keep_sparsity=true",
        "optimizer.lr=1e-4",  # rescaled states are small and C large: gentle steps
        f"hydra.run.dir={tuned}",
    )
    assert done.status == 0, done.errors
    before, after = load_model(run), load_model(tuned)
    assert isinstance(before, ImplicitModel)
    assert isinstance(after, ImplicitModel)
    assert not torch.equal(before.B, after.B)
    assert not after.B[before.B == 0].any()
    start = summary_of(run)["metrics"]["test_accuracy"]
    # One epoch of small steps neither forgets nor learns much: 359 test samples, some change sides.
    assert summary_of(tuned)["metrics"]["test_accuracy"] >= start - 0.03


def test_a_resumed_run_keeps_its_teacher(finished: tuple[Path, str], idl_here: IdlHere) -> None:
    run, _ = finished
    copy = run.parent / "copy"
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()  # as if the run had been killed
    done = idl_here("sim", *QUICK, "resume=auto", f"hydra.run.dir={copy}", "threads=1")
    assert done.status == 0, done.errors
    assert "epoch" not in done.output
    assert summary_of(copy)["metrics"] == summary_of(run)["metrics"]
    assert [row["split"] for row in read_metrics(copy)] == [
        row["split"] for row in read_metrics(run)
    ]


def test_lambda_is_chosen_on_the_validation_part(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        *QUICK,
        "trainer.select_lambda=validation",
        "trainer.lambda_grid=[1e-1,1e-3,1e-5]",
        "trainer.max_nonzero_fraction=0.6",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    assert "chosen" in done.output
    sim = summary_of(tmp_path / "run")["sim"]
    allowed = [each for each in sim["candidates"] if each["nonzero_fraction"] <= 0.6]
    best = max(allowed, key=lambda each: (each["validation_score"], -each["nonzero_fraction"]))
    assert len(sim["candidates"]) == 3
    assert sim["lambda_z"] == best["lambda_z"]
    assert sim["nonzero_fraction"] <= 0.6


def test_a_solver_that_ignores_kappa_says_so(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("sim", *QUICK, "solver=least_squares", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    assert "ignores" in done.errors
    assert summary_of(tmp_path / "run")["sim"]["ab"]["status"] == "unconstrained"


def test_an_inexact_result_is_reported_and_no_failure(idl_here: IdlHere, tmp_path: Path) -> None:
    little = ("solver=admm", "solver.max_iter=3", "solver.polish_passes=0")
    done = idl_here("sim", *QUICK, *little, "hydra.run.dir=run")
    assert done.status == 0, done.errors
    assert "inexact" in done.errors
    stage = summary_of(tmp_path / "run")["sim"]["ab"]
    assert stage["status"] == "inexact"
    assert stage["relative_gap"] > 1e-6


def test_a_convolution_network_teaches(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        "teacher=cnn",
        "teacher.channels=[2,2]",
        "teacher.hidden_dim=8",
        "teacher.epochs=5",
        "dataset.train_samples=600",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    assert summary_of(tmp_path / "run")["sim"]["agreement"] > 0.9


def test_a_dry_run_says_what_would_be_done(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("sim", *QUICK, "trainer.dry_run=true", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    assert "GiB" in done.output
    assert "n = 24 states" in done.output
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "teacher").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.kappa=1"], "trainer.kappa=1"),
        (["trainer.lambda_z=-1"], "trainer.lambda_z=-1"),
        (["trainer.lambda_z=-1", "trainer.kappa=1.5"], "2 mistakes"),
        (["teacher.states=[]"], "teacher.states="),
        (["trainer.max_nonzero_fraction=0.5"], "select_lambda"),
        (["trainer=gradient"], "idl train"),
        (["model=rnn"], "always makes an implicit model"),
    ],
)
def test_wrong_requests_start_nothing(
    idl_here: IdlHere, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = idl_here("sim", *arguments, "hydra.run.dir=run")
    assert done.status == 2
    assert message in done.errors
    assert "Traceback" not in done.errors
    assert not (tmp_path / "run").exists()


def test_what_only_the_data_show_is_told_in_a_sentence(
    finished: tuple[Path, str], idl_here: IdlHere, tmp_path: Path
) -> None:
    run, _ = finished
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(60, 5)).astype(np.float32)
    np.savez(tmp_path / "small.npz", inputs=inputs, targets=np.arange(60) % 3)
    wrong_size = idl_here(
        "sim",
        "dataset=arrays",
        "dataset.file=small.npz",
        f"teacher.run={run}",
        "hydra.run.dir=wrong",
    )
    unnamed = idl_here("sim", QUICK[-1], f"teacher.run={run}", "teacher.states=[layers.9]")
    nothing = idl_here("sim", QUICK[-1], "teacher.run=nowhere")
    no_validation = idl_here(
        "sim", *QUICK, "trainer.select_lambda=validation", "dataset.validation_fraction=0"
    )
    for done, status, message in (
        (wrong_size, 2, "64 inputs"),
        (unnamed, 2, "layers.9"),
        (nothing, 2, "teacher.run=nowhere: no such directory"),
        (no_validation, 2, "validation_fraction"),
    ):
        assert done.status == status, done.errors
        assert message in done.errors
        assert "Traceback" not in done.errors
    assert not (tmp_path / "wrong" / "model.safetensors").exists()
    assert summary_of(tmp_path / "wrong")["status"] == "failed"


def test_unknown_states_are_refused_before_the_teacher_is_trained(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    done = idl_here("sim", *QUICK, "teacher.states=[layers.99]", "hydra.run.dir=run")
    assert done.status == 2
    assert "layers.99" in done.errors
    assert "epoch" not in done.output
    assert not (tmp_path / "run" / "teacher").exists()


def test_nan_states_fail_in_a_sentence(
    finished: tuple[Path, str], idl_here: IdlHere, tmp_path: Path
) -> None:
    run, _ = finished
    loaded = load_run(run / "teacher")
    from idl_cli.run import RunDirectory

    with torch.no_grad():
        loaded.model.layers[1].weight[0, 0] = torch.nan  # type: ignore[union-attr,index]
    with RunDirectory(tmp_path / "broken", command="train") as broken:
        broken.save_model(
            loaded.model,
            preprocessing=loaded.preprocessing,
            task=loaded.task,
            name="mlp",
            group="teacher",
        )
    done = idl_here("sim", *QUICK, f"teacher.run={tmp_path / 'broken'}", "hydra.run.dir=run")
    assert done.status == 1
    assert "the input of activation 'layers.2' holds NaN" in done.errors
    assert "Traceback" not in done.errors
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_the_defaults_end_well_within_half_a_minute(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("sim", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    summary = summary_of(tmp_path / "run")
    assert summary["seconds"] < 30
    assert summary["sim"]["agreement"] > 0.97
    assert summary["metrics"]["test_accuracy"] > 0.94


@pytest.mark.slow
def test_solvers_are_compared_on_the_same_problem(idl_here: IdlHere, tmp_path: Path) -> None:
    solvers = "least_squares,cvx,admm,projected_gd,active_set"
    done = idl_here(
        "sim",
        "-m",
        f"solver={solvers}",
        *QUICK,
        "trainer.lambda_z=1e-3",
        "trainer.lambda_y=1e-3",
        "hydra.sweep.dir=sweep",
    )
    assert done.status == 0, done.errors
    jobs = [summary_of(tmp_path / "sweep" / str(number))["sim"] for number in range(5)]
    found = {job["solver"]: job["ab"] for job in jobs}
    assert list(found) == solvers.split(",")
    for name in ("cvx", "admm", "active_set"):
        assert found[name]["status"] in ("optimal", "at_precision")
        assert found[name]["objective"] == pytest.approx(found["active_set"]["objective"], rel=1e-6)
    assert found["least_squares"]["status"] == "unconstrained"
