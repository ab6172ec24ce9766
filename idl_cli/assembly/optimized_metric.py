"""``optimized_metric``: the figure that a sweep is ranked by and that a sweeper improves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from idl_cli.analysis.comparison import numbers
from idl_cli.analysis.ranking import VALIDATION_METRICS
from idl_cli.config.metric_names import CLASSIFICATION, REGRESSION
from idl_cli.data.dataset import Dataset
from idl_cli.errors import ConfigError


def check_metric(
    name: str | None,
    dataset: Dataset,
    parts: Sequence[str] | None = None,
    own: Collection[str] = (),
) -> None:
    """Refuse, before the work, a figure that this data set's task does not have.

    Args:
        name: the key's value; None is always fine.
        dataset: of the run.
        parts: the parts measured; None for all that the data set has.
        own: figures of this run, beside those of its task.

    Raises:
        ConfigError: there will be no such figure.
    """
    if name is None or name in own or name.startswith("sim."):
        return
    part, _, figure = name.partition("_")
    task = dataset.task.kind
    figures = CLASSIFICATION if task == "classification" else REGRESSION
    if figure not in figures:
        raise ConfigError(
            [
                f"optimized_metric={name}: dataset={dataset.name} is a {task} task, which has "
                f"{', '.join(f'{part}_{each}' for each in figures)}"
            ]
        )
    if parts is None:
        parts = ("train", "test") if dataset.validation is None else ("train", "validation", "test")
    if part not in parts:
        raise ConfigError(
            [f"optimized_metric={name}: there is no {part} part; there are {', '.join(parts)}"]
        )


def optimized_value(name: str | None, result: Mapping[str, Any]) -> float | None:
    """Return the figure that a sweeper gets to see of a run.

    Args:
        name: the figure, None for the validation metric where there is one.
        result: ``metrics`` and ``sim``, as they stand in ``summary.json``.

    Returns:
        The figure; None where the run does not have it or it is no finite number: sweepers count
        such a job as failed, since there is nothing to compare.
    """
    figures = {**numbers(result.get("metrics", {})), **numbers(result.get("sim", {}), "sim.")}
    names = VALIDATION_METRICS if name is None else (name,)
    value = next((figures[each] for each in names if each in figures), None)
    if value is None or not math.isfinite(float(str(value))):
        return None
    return float(str(value))
