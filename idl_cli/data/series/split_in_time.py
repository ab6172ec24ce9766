"""From a series to a ``Dataset``: windows of its parts, scaled by the training part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from idl_cli.data.dataset import Dataset
from idl_cli.data.moments import mean_and_deviation
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.differences import Differences
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series
from idl_cli.data.task import Task
from idl_cli.errors import DataError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SeriesSplit:
    """Which samples a series gives to which part.

    Args:
        windows: how a sample is cut.
        parts: where the parts begin.
        usable: rows t whose window and targets may be used; None for all.
    """

    windows: Windows
    parts: Parts
    usable: npt.NDArray[np.bool_] | None = field(default=None)

    def rows(self) -> dict[str, Rows]:
        """Rows t of the samples of every part."""
        chosen = {}
        for name, (first, last) in self.parts.bounds().items():
            rows = self.windows.rows(first, last)
            chosen[name] = rows if self.usable is None else rows[self.usable[rows]]
        return chosen


def make_dataset(
    name: str,
    series: Series,
    split: SeriesSplit,
    forecast: Forecast,
    *,
    normalize: Literal["standard", "none"],
    source: str,
    differenced: bool = False,
) -> tuple[Dataset, Mapping[str, Rows]]:
    """Cut a series into parts.

    Args:
        name: option of the config group.
        series: all rows (T, features), without missing values where samples are cut; elsewhere NaN
            where missing, which the statistics leave out.
        split: which samples go where.
        forecast: what is forecast.
        normalize: ``standard``: every feature and the targets in deviations from their mean over
            the rows of the training part; ``none``: in their own units.
        source: file or key that a message names.
        differenced: whether changes are read and predicted instead of values.

    Returns:
        The data set, and the row t of every sample of every part.

    Raises:
        DataError: a part has no samples.
    """
    rows = split.rows()
    _refuse_empty(rows, split, source)
    training = series[: split.parts.validation]
    look_back, features = split.windows.look_back, series.shape[1]
    preprocessing = Preprocessing("none", (look_back, features))
    scaling, scaled = None, training
    if normalize == "standard":
        mean, std = _statistics(training, source)
        scaled = (training - mean) / std
        preprocessing = Preprocessing(
            "channel",
            (look_back, features),
            statistics_shape=(1, features),
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
        )
        target = forecast.target_feature
        scaling = TargetScaling(
            (float(mean[target]),) * forecast.horizon, (float(std[target]),) * forecast.horizon
        ).measurable(source)
    if differenced:
        largest = np.nanmax(np.abs(training), axis=0) / (1.0 if scaling is None else std)
        changes = Differences.fit(
            scaled, forecast.target_feature, forecast.horizon, magnitude=largest
        )
        forecast = replace(forecast, differences=changes)
    cut = {part: split.windows.cut(series, chosen, scaling) for part, chosen in rows.items()}
    task = Task(
        "regression",
        (look_back, features),
        forecast.horizon,
        sequence=True,
        target_scaling=scaling,
        forecast=forecast,
    )
    made = Dataset(
        name=name,
        train=cut["train"],
        validation=cut.get("validation"),
        test=cut["test"],
        task=task,
        preprocessing=preprocessing,
    )
    return made, rows


def whole_series(
    name: str, series: Series, split: SeriesSplit, forecast: Forecast, *, source: str
) -> tuple[Dataset, Rows]:
    """Cut all of a series into samples to measure a trained model on; nothing is scaled.

    Args:
        name: see ``make_dataset``, as the other arguments.
        series: all rows (T, features).
        split: of one part, the test part.
        forecast: what is forecast.
        source: file or key that a message names.

    Returns:
        The data set, whose training part is the test part too, and the row of every sample.

    Raises:
        DataError: there is no sample.
    """
    windows, rows = split.windows, split.rows().get("test", np.empty(0, dtype=np.int64))
    if not len(rows):
        raise DataError(
            f"{source}: {split.parts.end} rows make no window of dataset.look_back="
            f"{windows.look_back} rows and dataset.horizon={windows.horizon} after it"
        )
    shape = (windows.look_back, series.shape[1])
    samples = windows.cut(series, rows, None)
    task = Task("regression", shape, windows.horizon, sequence=True, forecast=forecast)
    return Dataset(name, samples, None, samples, task, Preprocessing("none", shape)), rows


def _statistics(training: Series, source: str) -> tuple[Series, Series]:
    """Mean and deviation of every feature over the rows where it has a value."""
    columns = [torch.from_numpy(column[~np.isnan(column)]) for column in training.T]
    if not all(map(len, columns)):
        raise DataError(f"{source}: a feature has no value in the rows of the training part")
    found = [mean_and_deviation(column) for column in columns]
    mean, std = (np.array([float(pair[which]) for pair in found]) for which in (0, 1))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise DataError(
            f"{source}: the training rows of a feature are not finite, or differ by more than"
            " float64 can hold (1.8e308): they cannot be normalised; choose a larger unit"
        )
    return mean, std


def _refuse_empty(rows: Mapping[str, Rows], split: SeriesSplit, source: str) -> None:
    windows, bounds = split.windows, split.parts.bounds()
    for part in ("train", "validation", "test"):
        least = 2 if part == "train" else 1  # one sample has no spread to learn
        if part in rows and len(rows[part]) >= least:
            continue
        if part == "validation" and part not in bounds:
            continue
        first, last = bounds.get(part, (0, 0))
        needed = windows.horizon + (windows.look_back + windows.stride if part == "train" else 0)
        what = "two samples" if part == "train" else "a sample"
        whole = "" if split.usable is None else " without an empty cell"
        raise DataError(
            f"{source}: the {part} part has {last - first} of {split.parts.end} rows, too few for"
            f" {what} of dataset.look_back={windows.look_back} and"
            f" dataset.horizon={windows.horizon}: {needed} rows in a row{whole} are needed; choose"
            " a shorter look_back or horizon, other fractions, or more data"
        )
