"""The figure that sweeps are ranked by: known before the work, nothing to compare if it is NaN."""

from __future__ import annotations

import math

import pytest

from idl_cli import registry
from idl_cli.analysis.comparison import Entry, ranked
from idl_cli.analysis.ranking import is_higher_better
from idl_cli.assembly.optimized_metric import check_metric, optimized_value
from idl_cli.config.metric_names import SIM, metric_names
from idl_cli.errors import ConfigError
from idl_cli.requests.preflight import Request, preflight
from idl_cli.sweeps.jobs import short_names
from tests.sub_commands import COMMANDS


def _refuse(command: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight(Request(COMMANDS[command], COMMANDS, overrides, root=command))
    (problem,) = caught.value.problems
    return problem


def test_a_misspelt_metric_is_refused_before_the_work() -> None:
    assert "did you mean test_accuracy?" in _refuse("train", "optimized_metric=test_acuracy")
    assert "measures no such thing" in _refuse("train", "optimized_metric=sim.agreement")
    sentence = _refuse(
        "sim", "optimized_metric=validation_accuracy", "dataset.validation_fraction=0"
    )
    assert "leaves no validation part" in sentence


def test_metrics_of_another_task_are_refused_once_the_data_are_known() -> None:
    dataset = registry.build(
        "dataset", {"name": "digits", "train_samples": 20, "validation_fraction": 0.0}, seed=0
    )
    check_metric("test_accuracy", dataset)
    check_metric(None, dataset)
    with pytest.raises(ConfigError, match="classification task, which has test_loss"):
        check_metric("test_r2", dataset)
    with pytest.raises(ConfigError, match="no validation part"):
        check_metric("validation_loss", dataset)
    with pytest.raises(ConfigError, match="no train part"):
        check_metric("train_loss", dataset, ["test"])


def test_what_cannot_be_compared_is_none() -> None:
    result = {"metrics": {"test_loss": math.nan, "validation_r2": 0.5}, "sim": {"agreement": 1}}
    assert optimized_value("test_loss", result) is None
    assert optimized_value("test_accuracy", result) is None
    assert optimized_value("sim.agreement", result) == 1.0
    assert optimized_value(None, result) == 0.5
    assert optimized_value(None, {"metrics": {"test_loss": 1.0}}) is None


def test_every_metric_has_a_direction() -> None:
    higher = {name for name in metric_names(SIM) if is_higher_better(name)}
    parts = ("train", "validation", "test")
    expected = {f"{part}_{name}" for part in parts for name in ("accuracy", "top5_accuracy", "r2")}
    assert higher == {*expected, "sim.agreement"}


def test_the_best_come_first_and_the_failed_last() -> None:
    losses = {"0": 0.0, "1": 2.0, "2": None, "3": 1.0}
    for metric, order in (("test_loss", "3120"), ("test_accuracy", "1320")):
        entries = [
            Entry(job, job, "completed" if job != "0" else "failed", figures={metric: value})
            for job, value in losses.items()
        ]
        assert [entry.run for entry in ranked(entries, metric)] == list(order)


def test_keys_are_shortened_while_they_are_told_apart() -> None:
    assert short_names(["optimizer.lr", "seed"]) == ["lr", "seed"]
    keys = ["model.forward.tol", "model.backward.tol", "model"]
    assert short_names(keys) == ["forward.tol", "backward.tol", "model"]
