"""Python callers are held to the ranges of the configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from idl_cli import registry
from idl_cli.config.arguments import check_options
from idl_cli.config.fields import Range, parts_of
from idl_cli.data.options import RollingMeanOptions
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.errors import ArgumentError, ConfigError, RequestError
from idl_cli.sim import solvers
from idl_cli.sim.fit.options import SimOptions
from idl_cli.training.optimizers import adam
from idl_cli.training.options import AdamOptions
from idl_cli.training.settings import EarlyStoppingSettings, TrainerSettings

CHECKED = (
    solvers.ActiveSetSolver,
    solvers.ADMMSolver,
    solvers.ADMMMultiGPUSolver,
    solvers.CVXSolver,
    solvers.LeastSquareSolver,
    solvers.ProjectedGDLowRankSolver,
    SimOptions,
    FixedPointSettings,
    AdjointSettings,
    TrainerSettings,
    EarlyStoppingSettings,
)


def _limits(options: type) -> Iterator[tuple[str, Range]]:
    hints = get_type_hints(options, include_extras=True)
    for item in fields(options):
        for mark in parts_of(hints[item.name]):
            if isinstance(mark, Range):
                yield item.name, mark


def _outside(limit: Range) -> Iterator[float]:
    yield math.nan
    if limit.low is not None:
        yield (
            limit.low
            if limit.low_open
            else min(limit.low - 1, math.nextafter(limit.low, -math.inf))
        )
    if limit.high is not None:
        yield (
            limit.high
            if limit.high_open
            else max(limit.high + 1, math.nextafter(limit.high, math.inf))
        )


MADE = [
    (group, name)
    for group in ("dataset", "optimizer", "scheduler")
    for name in registry.built_in_schemas(group)
]


@pytest.mark.parametrize(("group", "name"), MADE)
def test_every_range_holds_for_what_the_registry_makes(group: str, name: str) -> None:
    component = registry.find(group, name)
    make, runtime = registry.load(component), registry.runtime_arguments(group)
    parameters = inspect.signature(make).parameters
    required = [key for key, each in parameters.items() if each.default is each.empty]
    # Nothing is read or made before the options are checked.
    given = {key: None if key in runtime else "nowhere" for key in required}
    limits = list(_limits(component.schema))
    assert limits
    for key, limit in limits:
        default = parameters[key].default
        for value in _outside(limit):
            wrong = (value, *default[1:]) if isinstance(default, tuple) else value
            with pytest.raises(RequestError, match=rf"^(dataset\.)?{key}(\[0\])?[=:]"):
                make(**{**given, key: wrong})


def test_options_are_taken_as_python_has_them() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    (group,) = adam(weights, lr=1, betas=[np.float64(0.5), 0.25]).param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (1, (0.5, 0.25), AdamOptions.eps)
    with pytest.raises(TypeError, match="unexpected keyword argument 'rate'"):
        adam(weights, rate=0.1)


@pytest.mark.parametrize("options", CHECKED)
def test_every_range_holds_for_python_callers(options: type) -> None:
    limits = list(_limits(options))
    assert limits
    for name, limit in limits:
        for value in _outside(limit):
            with pytest.raises(ArgumentError, match=rf"{name}={value:g} must be "):
                options(**{name: value})


def test_all_mistakes_are_named_at_once_with_the_class() -> None:
    with pytest.raises(ArgumentError, match=r"^ADMMSolver: .*rho=0 .*; check_every=0 "):
        solvers.ADMMSolver(rho=0, check_every=0)


@pytest.mark.parametrize("infinite", ["lambda_z", "lambda_y", "l2"])
def test_no_penalty_is_infinite(infinite: str) -> None:
    numbers: dict[str, Any] = {infinite: math.inf}
    with pytest.raises(ArgumentError, match=rf"{infinite}=inf must be >= 0 and finite"):
        SimOptions(**numbers)


def test_numbers_of_numpy_and_lists_do() -> None:
    check_options(RollingMeanOptions, {"window": np.int64(3), "train_range": [np.float32(0), 1]})


def test_a_named_section_stands_before_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.window=11: at most dataset\.length=10"):
        check_options(RollingMeanOptions, {"window": 11}, section="dataset")
    with pytest.raises(ArgumentError, match=r"^window=0 must be an integer >= 1$"):
        check_options(RollingMeanOptions, {"window": 0})
