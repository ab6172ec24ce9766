"""``dataset=csv``: the user's own series, with what was inferred said in so many words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from idl_cli.data.dataset import Dataset, TimeAxis
from idl_cli.data.files.dates import Dates, find_dates
from idl_cli.data.files.numbers import Decimal, Thousands
from idl_cli.data.files.table import Delimiter, Table, read_table
from idl_cli.data.moments import is_constant
from idl_cli.data.options import CsvOptions
from idl_cli.data.series.differences import Differencing, deviation, is_steadier
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.missing import Rule, fill, rule_for, usable_rows
from idl_cli.data.series.split_in_time import SeriesSplit, make_dataset, whole_series
from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series
from idl_cli.data.task import Task
from idl_cli.errors import DataError

LONGEST_LOOK_BACK = 60


def csv(
    *,
    file: str,
    target: str,
    columns: Sequence[str] = CsvOptions.columns,
    dates: str | None = CsvOptions.dates,
    date_format: str | None = CsvOptions.date_format,
    look_back: int | None = CsvOptions.look_back,
    horizon: int = CsvOptions.horizon,
    stride: int = CsvOptions.stride,
    missing: Rule | Literal["auto"] = CsvOptions.missing,
    normalize: Literal["standard", "none"] = CsvOptions.normalize,
    difference: Differencing = CsvOptions.difference,
    delimiter: Delimiter = CsvOptions.delimiter,
    decimal: Decimal = CsvOptions.decimal,
    thousands: Thousands | None = CsvOptions.thousands,
    test_fraction: float = CsvOptions.test_fraction,
    validation_fraction: float = CsvOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
    for_task: Task | None = None,
) -> Dataset:
    """Cut a user's table into windows, split in time; keys as in ``configs/dataset/csv.yaml``.

    Args:
        file: the table; see ``read_table``.
        target: the column to forecast; its past is the first feature of a step.
        columns: further columns whose past is a feature.
        dates: the column of times, ``auto`` or None; see ``find_dates``.
        date_format: of the dates.
        look_back: rows in a window; None for a tenth of the rows, at most 60.
        horizon: rows forecast.
        stride: rows from one window to the next.
        missing: what to do about empty cells; see ``fill``. With ``drop`` no sample touches one;
            with the others no target is a filled value. ``auto``: ``interpolate`` where at most one
            row in twenty has an empty cell, else ``error``.
        normalize: ``standard``: features and targets in deviations from their mean over the rows
            of the training part.
        difference: whether changes are learnt instead of values, of all features and of the
            targets: a forecast is then the last value plus a predicted change. ``auto``: where
            the target's changes spread less than its values over the training part.
        delimiter: between columns.
        decimal: decimal sign.
        thousands: sign between groups of three digits, None for none.
        test_fraction: share of the rows, the last ones, to test on.
        validation_fraction: share of the rows before those, the last ones, held out.
        seed: taken for uniformity; nothing is drawn.
        cache_dir: taken for uniformity; nothing is downloaded.
        for_task: of a trained model to be measured on the table: all windows are the test part, of
            the model's ``look_back`` where none is given. Nothing is scaled: see
            ``Dataset.for_model_of``.

    Raises:
        DataError: the file cannot be learnt from; the message names file, line and column.
        ConfigError: a column that was asked for does not exist.
    """
    table = read_table(
        Path(file).expanduser(), delimiter=delimiter, decimal=decimal, thousands=thousands
    )
    table.require(target, "dataset.target")
    for column in columns:
        table.require(column, "dataset.columns")
    used = (target, *columns)
    series = np.stack([table.numbers(column) for column in used], axis=1)
    times = find_dates(table, dates, date_format, used)
    parts = Parts.by_fractions(
        len(series), test_fraction=test_fraction, validation_fraction=validation_fraction
    )
    if for_task is not None:
        parts = Parts(0, 0, len(series))
        if look_back is None and for_task.sequence:
            look_back = for_task.input_shape[0]
    rows = min(LONGEST_LOOK_BACK, max(1, len(series) // 10)) if look_back is None else look_back
    windows = Windows(rows, horizon, stride)
    usable = None
    gaps = int(np.isnan(series).sum())
    if gaps:
        rule = rule_for(series, missing)
        first_gap = _missing_cell(table, series, used)
        if rule == "error":
            raise DataError(
                f"{first_gap}; choose dataset.missing=drop, forward_fill or interpolate"
            )
        filled = fill(series, rule, parts)
        usable = usable_rows(filled, series, windows, rule)
        series = filled
    axis = np.array(table.lines, dtype=np.float64) if times is None else times.values
    label = f"line of {table.file.name}" if times is None else times.column
    if for_task is not None:
        split = SeriesSplit(windows, parts, usable)
        whole, chosen_rows = whole_series(
            "csv", series, split, Forecast(target, 0, horizon), source=str(table.file)
        )
        return replace(whole, times=TimeAxis(axis[chosen_rows], label))
    _refuse_constant(table, series[: parts.validation], used)
    training = series[: parts.validation]
    differenced = difference == "always" or (
        difference == "auto" and len(training) > 1 and is_steadier(training, 0)
    )
    dataset, chosen = make_dataset(
        "csv",
        series,
        SeriesSplit(windows, parts, usable),
        Forecast(target, 0, horizon),
        normalize=normalize,
        source=str(table.file),
        differenced=differenced,
    )
    assumed = _Assumptions(table, used, times, windows, parts)
    sentences = [*assumed.columns(dates), *assumed.split(look_back, horizon)]
    if difference == "auto":
        sentences.append(assumed.differences(training, differenced))
    if gaps:
        samples = sum(len(each) for each in chosen.values())
        asked = "dataset.missing=error refuses" if missing == "auto" else "as asked for"
        sentences.append(f"{first_gap}: {rule} ({asked}) leaves {samples} samples")
    return replace(
        dataset,
        times=TimeAxis(axis[chosen["test"]], label),
        assumptions=tuple(sentences),
    )


@dataclass(frozen=True)
class _Assumptions:
    """Puts into words what was inferred, and with which key to say otherwise."""

    table: Table
    used: Sequence[str]
    times: Dates | None
    windows: Windows
    parts: Parts

    def columns(self, dates: str | None) -> list[str]:
        sentences = []
        if self.times is not None:
            found = f"dates are in column {self.times.column!r} (by {self.times.found_by})"
            sentences.append(f"{found}, {self.times.usual_step} a row")
            if self.times.irregular_steps:
                sentences.append(
                    f"{self.times.irregular_steps} of {self.parts.end - 1} steps between dates are"
                    f" not about {self.times.usual_step}: rows are taken as evenly spaced all the"
                    " same"
                )
        elif dates == "auto":
            sentences.append("no column of dates was found: rows are taken as evenly spaced")
        date_column = None if self.times is None else self.times.column
        unused = [
            name for name in self.table.header if name not in self.used and name != date_column
        ]
        inputs = f"inputs are the past of {', '.join(self.used)}"
        if unused:
            inputs += f"; {', '.join(unused)} unused (dataset.columns=[...] adds some)"
        return [*sentences, inputs]

    def split(self, look_back: int | None, horizon: int) -> list[str]:
        window = f"a window of {self.windows.look_back} rows"
        if look_back is None:
            window += f" (a tenth of {self.parts.end}, at most {LONGEST_LOOK_BACK};"
            window += " dataset.look_back=N changes it)"
        ahead = "row" if horizon == 1 else f"{horizon} rows"
        sentences = [f"{window} forecasts the next {ahead} (dataset.horizon={horizon})"]
        shares = ", ".join(
            f"{name} lines {self.table.lines[first]}-{self.table.lines[last - 1]}"
            for name, (first, last) in self.parts.bounds().items()
        )
        return [*sentences, f"split in time, oldest first: {shares}"]

    def differences(self, training: Series, differenced: bool) -> str:
        values, changes = map(deviation, (training[:, 0], np.diff(training[:, 0])))
        spread = (
            f"from row to row {self.used[0]} changes by {changes:.3g} (deviation), its values"
            f" spread by {values:.3g}"
        )
        if differenced:
            forecast = "a change from the last value is forecast"
            return f"{spread}: {forecast} (dataset.difference=never for values)"
        return f"{spread}: values are forecast (dataset.difference=always for changes)"


def _missing_cell(table: Table, series: Series, used: Sequence[str]) -> str:
    row, feature = np.argwhere(np.isnan(series))[0]
    gaps = int(np.isnan(series).sum())
    others = "" if gaps == 1 else f" ({gaps} such cells in all)"
    return f"{table.where(int(row), used[int(feature)])}: no value{others}"


def _refuse_constant(table: Table, training: Series, used: Sequence[str]) -> None:
    for feature, column in enumerate(used):
        known = training[:, feature][~np.isnan(training[:, feature])]
        if len(known) and is_constant(torch.from_numpy(known)):
            rounding = "" if known.min() == known.max() else " but for rounding"
            raise DataError(
                f"{table.file}: lines {table.lines[0]}-{table.lines[len(training) - 1]}, column"
                f" {column!r}: constant, {known[0]:g} in all training rows{rounding}; nothing can"
                " be learnt from it"
            )
