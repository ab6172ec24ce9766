"""Which samples ``idl eval`` measures a model on, and whether the model can take them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from idl_cli import registry
from idl_cli.assembly.run_data import has_changed
from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.data.dataset import Dataset
from idl_cli.data.input_scale import preprocessing_for, warn_of_other_unit
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError
from idl_cli.run import LoadedRun
from idl_cli.run.records import DATA

_FILES: Final = ("name", "file", "target")
"""Keys of a data set by which it is the one of the run, or another."""


def evaluation_dataset(
    settings: EvalSettings,
    own: Mapping[str, Any] | None,
    seed: int,
    loaded: LoadedRun,
    overrides: Sequence[str],
) -> Dataset:
    """Make the data set to measure on, as the model needs it.

    A run's own data set is divided as in the run, so that no training sample is tested on. A file
    of the user that the run does not know is the test part as a whole, unless
    ``dataset.test_fraction`` is among the overrides.

    Args:
        settings: checked.
        own: settings of the run; None where it holds none.
        seed: of the run.
        loaded: its model.
        overrides: what the user asked for.

    Raises:
        ConfigError: the data set does not fit the model, or the run's own is not what it was.
    """
    run, mine = Path(settings.run), None if own is None else own["dataset"]
    chosen = settings.dataset if settings.dataset is not None else mine
    if chosen is None:
        raise ConfigError(
            [f"run={settings.run}: says nothing of its data set; give dataset=OPTION"]
        )
    same = mine is not None and all(_place(chosen, key) == _place(mine, key) for key in _FILES)
    dataset = None
    if mine is not None and same and (chosen == mine or "file" in chosen):
        recorded = _divided(mine, seed)
        same = not has_changed(recorded, run)
        dataset = recorded if same and chosen == mine else None
        if not same:
            _refuse_or_warn_of_change(settings, chosen)
    asked = [text for text in overrides if text.lstrip("~+").startswith("dataset.test_fraction=")]
    part = any(not text.startswith("++") for text in asked) and chosen["test_fraction"] < 1
    task, preprocessing = loaded.task, loaded.preprocessing
    whole = not (same or part or task is None or preprocessing is None) and _takes_task(chosen)
    if dataset is None and not whole:
        dataset = _divided(chosen, seed)
    elif dataset is None:
        dataset = registry.build("dataset", chosen, seed=seed, for_task=task)
    if task is not None:
        dataset = dataset.in_classes_of(task)
        _refuse_other_task(dataset, task, settings.run)
        _check_columns(chosen, mine, settings.run)
    if preprocessing is not None:
        preprocessing = preprocessing_for(dataset, preprocessing)
    dataset = dataset.for_model_of(dataset.task if task is None else task, preprocessing)
    if not same:
        warn_of_other_unit(dataset)
    return _with_shifts(dataset, settings.shifts)


def _refuse_or_warn_of_change(settings: EvalSettings, chosen: Mapping[str, Any]) -> None:
    """Figures of other data are not the run's: refuse them, unless the data were chosen again."""
    if settings.dataset is None:
        raise ConfigError(
            [
                f"run={settings.run}: its dataset={chosen['name']} holds other samples or values"
                f" than when the run was made ({Path(settings.run) / DATA}); restore the data, or"
                f" choose them as they are now: dataset={' '.join(_choice(chosen))}"
            ]
        )
    warnings.warn(
        f"dataset={chosen['name']}: the data have changed since run={settings.run} was made with"
        " them; they are taken as other data, among which its training samples may be",
        stacklevel=3,
    )


def _divided(chosen: Mapping[str, Any], seed: int) -> Dataset:
    made: Dataset = registry.build("dataset", chosen, seed=seed)
    return made


def _takes_task(chosen: Mapping[str, Any]) -> bool:
    builder = registry.load(registry.find("dataset", str(chosen["name"])))
    return "for_task" in inspect.signature(builder).parameters


def _place(chosen: Mapping[str, Any], key: str) -> object:
    value = chosen.get(key)
    if key == "name" or value is None or (key == "target" and chosen["name"] != "arrays"):
        return value
    return Path(str(value)).expanduser().resolve()


def _choice(chosen: Mapping[str, Any]) -> list[str]:
    given = [f"dataset.{key}={chosen[key]}" for key in ("file", "target") if chosen.get(key)]
    return [str(chosen["name"]), *given]


def _refuse_other_task(dataset: Dataset, task: Task, run: str) -> None:
    if _shape(task) != _shape(dataset.task):
        raise ConfigError(
            [
                f"dataset={dataset.name}: {_shape(dataset.task)}; the model of {run} was"
                f" trained for {_shape(task)}"
            ]
        )


def _check_columns(chosen: Mapping[str, Any], own: Mapping[str, Any] | None, run: str) -> None:
    """Columns of a table are the features of a step, by their order alone."""
    if own is None or not chosen["name"] == own["name"] == "csv":
        return
    now, then = ([each["target"], *each["columns"]] for each in (chosen, own))
    if now == then:
        return
    if sorted(now) == sorted(then):
        raise ConfigError(
            [
                f"dataset.target={now[0]}, dataset.columns={now[1:]}: the model of {run} reads"
                f" {', '.join(then)}, in this order; give dataset.target={then[0]} and"
                f" dataset.columns={then[1:]}"
            ]
        )
    warnings.warn(
        f"dataset=csv: {', '.join(now)} are read as {', '.join(then)}, on which the model of"
        f" {run} was trained",
        stacklevel=2,
    )


def _with_shifts(dataset: Dataset, shifts: tuple[float, ...] | None) -> Dataset:
    if shifts is None:
        return dataset
    if dataset.shifts is None:
        raise ConfigError(
            [f"shifts={list(shifts)}: dataset={dataset.name} has no shifts; leave them out"]
        )
    return replace(dataset, shifts=replace(dataset.shifts, values=shifts))


def _shape(task: Task) -> str:
    shape = "×".join(map(str, task.input_shape))
    return f"{task.kind} of {shape} samples with {task.output_dim} outputs"
