"""Options that cannot act in a run are refused or said, never ignored without a word."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from idl_cli.assembly.idle_options import warn_of_idle_sim_options
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.config.check import instantiate
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.requests.preflight import Request, preflight
from tests.conftest import IdlHere
from tests.sub_commands import COMMANDS

SMALL = (
    "dataset.train_samples=100",
    "dataset.test_samples=50",
    "report=false",
    "hydra.run.dir=run",
)


@pytest.mark.parametrize("asked", ["patience=1", "min_delta=0.1", "metric=loss"])
def test_early_stopping_needs_a_validation_part(idl_here: IdlHere, asked: str) -> None:
    done = idl_here(
        "train", *SMALL, "dataset.validation_fraction=0", f"trainer.early_stopping.{asked}"
    )
    assert done.status == 2
    assert f"trainer.early_stopping.{asked}: dataset.validation_fraction=0 leaves" in done.errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("scheduler.warmup_epochs=2", "scheduler.warmup_epochs=2: longer than the training"),
        ("scheduler=step scheduler.every_epochs=2", "scheduler.every_epochs=2: the training ends"),
        ("trainer.early_stopping.min_delta=0.1", "early_stopping.min_delta=0.1: without"),
        (
            "trainer.perturbation.epsilon=0.2",
            "trainer.perturbation.epsilon: has no effect with trainer.robust=none",
        ),
        (
            "trainer.robust=interval trainer.perturbation.attack_steps=3",
            "trainer.perturbation.attack_steps=3: is for trainer.robust=adversarial, and has no",
        ),
        (
            "trainer.robust=interval trainer.perturbation.ramp_epochs=7",
            "trainer.perturbation.ramp_epochs=7: with clean_epochs=1 longer than the training",
        ),
        ("trainer.keep_sparsity=true", "trainer.keep_sparsity=true: the weights of a new"),
        (
            "device=cpu model.cuda_graphs=true",
            "model.cuda_graphs=true: is for a GPU, and has no effect with device=cpu",
        ),
        (
            "model.forward.method=picard model.forward.window=9",
            "model.forward.window=9: is for model.forward.method=anderson or auto, and has no",
        ),
        (
            "model.backward.method=picard model.backward.regularization=1",
            "model.backward.regularization=1: is for",
        ),
        (
            "model.backward.method=jacobian_free model.backward.tol=1e-9",
            "model.backward.tol=1e-09: is for model.backward.method=picard or anderson or auto",
        ),
        ("model.well_posedness=triangular model.kappa=0.5", "model.kappa=0.5: is for model.well"),
        (
            "optimizer=sgd optimizer.momentum=0 optimizer.dampening=0.1",
            "optimizer.dampening=0.1: dampens what momentum adds",
        ),
        (
            "model=rnn dataset=argmax dataset.train_samples=40 dataset.length=4 model.truncate=4",
            "model.truncate=4: has no effect on sequences of 4 steps",
        ),
    ],
)
def test_what_lies_beyond_the_run_is_said(idl_here: IdlHere, arguments: str, said: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always", IgnoredOptionWarning)
        done = idl_here(
            "train", *SMALL, "trainer.epochs=1", "trainer.dry_run=true", *arguments.split()
        )
    assert done.status == 0, done.errors
    assert said in " ".join((done.output + done.errors).split())


def test_a_key_acts_where_a_model_lacks_the_choice_it_is_for(idl_here: IdlHere) -> None:
    words = ("model=implicit_conv", "model.kappa=0.5", "trainer.epochs=1", "trainer.dry_run=true")
    done = idl_here("train", *SMALL, *words)
    assert done.status == 0, done.errors
    assert "model.kappa" not in done.errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trainer.lambda_grid=[1e-3]", "trainer.lambda_grid: has no effect without trainer.select"),
        ("trainer.prune_epochs=1", "trainer.prune_epochs: has no effect without trainer.path"),
        ("trainer.prune_baseline=false", "trainer.prune_baseline: has no effect without trainer."),
        ("trainer.samples=9999", "trainer.samples=9999: the training part has 90; the states of"),
    ],
)
def test_what_belongs_to_another_way_of_fitting_is_said(
    idl_here: IdlHere, arguments: str, said: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always", IgnoredOptionWarning)
        done = idl_here("sim", *SMALL, "trainer.dry_run=true", arguments)
    assert done.status == 0, done.errors
    assert said in " ".join((done.output + done.errors).split())


@pytest.mark.parametrize("key", ["epochs", "lr", "hidden_dims", "batch_size", "bias"])
def test_options_of_a_teacher_that_is_not_trained_are_said(tmp_path: Path, key: str) -> None:
    values = {"epochs": 1, "lr": 0.5, "hidden_dims": [3], "batch_size": 2, "bias": False}
    asked = (f"teacher.run={tmp_path}", f"teacher.{key}={values[key]}")
    accepted = preflight(Request(COMMANDS["sim"], COMMANDS, asked, root="sim"))
    settings = instantiate(SimSettings, accepted.settings)
    with pytest.warns(IgnoredOptionWarning, match=rf"teacher\.{key}: has no effect beside") as said:
        warn_of_idle_sim_options(settings)
    assert len(said) == 1


def test_advice_names_keys_that_the_command_has(idl_here: IdlHere) -> None:
    done = idl_here("sim", *SMALL, "teacher.lr=1e30")
    assert done.status == 1
    assert "lower teacher.lr" in done.errors
    for key in ("optimizer.", "trainer.clip_norm", "trainer.on_nonfinite"):
        assert key not in done.errors
    wrong = idl_here("sim", "optimizer.lr=1e-3")
    assert wrong.status == 2
    assert "teacher.lr; give that, or use `idl train`" in wrong.errors
