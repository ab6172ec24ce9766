"""Launchers and sweepers that come as extras: they are there, or one sentence says how."""

from __future__ import annotations

from importlib import metadata, util

import pytest

from idl_cli.errors import ConfigError
from idl_cli.requests.mistakes import missing_extra
from idl_cli.requests.preflight import Request, preflight
from tests.sub_commands import COMMANDS

CHOICES = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/sweeper=optuna": "optuna",
}


def _accept(*overrides: str) -> None:
    preflight(Request(COMMANDS["train"], COMMANDS, overrides, multirun=True, root="train"))


@pytest.mark.parametrize("choice", CHOICES)
def test_an_extra_that_is_installed_is_accepted(choice: str) -> None:
    assert missing_extra(choice) is None
    _accept(choice, "seed=0,1")


@pytest.mark.parametrize("choice", CHOICES)
def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setattr("idl_cli.requests.mistakes.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        _accept(choice)
    (sentence,) = caught.value.problems
    assert (
        sentence == f"{choice}: an extra is not installed; pip install 'idl-cli[{CHOICES[choice]}]'"
    )


def test_a_database_that_the_study_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.0.1")
    sentence = missing_extra("hydra/sweeper=optuna")
    assert sentence is not None
    assert "needs sqlalchemy < 2.0, 2.0.1 is installed" in sentence


def test_other_choices_need_no_extra() -> None:
    assert util.find_spec("hydra") is not None
    assert missing_extra("hydra/launcher=basic") is None
    assert missing_extra("model=rnn") is None


def test_an_interval_needs_a_study() -> None:
    with pytest.raises(ConfigError, match="hydra/sweeper=optuna"):
        _accept("optimizer.lr=interval(1e-3,1e-1)")
    _accept("optimizer.lr=interval(1e-3,1e-1)", "hydra/sweeper=optuna")
    with pytest.raises(ConfigError, match=r"optimizer\.lr=-1"):
        _accept("optimizer.lr=interval(1e-3,-1)", "hydra/sweeper=optuna")


def test_jobs_stay_in_directories_named_by_their_numbers() -> None:
    with pytest.raises(ConfigError, match="directories named by their numbers"):
        _accept("hydra.sweep.subdir=x")
