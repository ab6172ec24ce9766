"""``dataset=csv``: the user's own series, with what was inferred said in so many words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from idl_cli.config.arguments import keywords_of
from idl_cli.data.dataset import Dataset, TimeAxis
from idl_cli.data.files.dates import Dates, find_dates
from idl_cli.data.files.table import Table, read_table
from idl_cli.data.options import CsvOptions
from idl_cli.data.series.differences import is_steadier
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.missing import fill, rule_for, usable_rows
from idl_cli.data.series.split_in_time import SeriesSplit, make_dataset, whole_series
from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series
from idl_cli.data.task import Task
from idl_cli.errors import DataError

LONGEST_LOOK_BACK = 60


@keywords_of(CsvOptions, section="dataset")
def csv(
    options: CsvOptions,
    *,
    seed: int = 0,
    cache_dir: Path | str | None = None,
    for_task: Task | None = None,
) -> Dataset:
    """Cut a user's table into windows, split in time; keys as in ``configs/dataset/csv.yaml``.

    Args:
        options: the keys, each a keyword argument of its own. ``file``: see ``read_table``;
            ``dates``: see ``find_dates``; ``missing``: see ``fill``. With ``drop`` no sample
            touches an empty cell; with the other rules no target is a filled value.
        seed: taken for uniformity; nothing is drawn.
        cache_dir: taken for uniformity; nothing is downloaded.
        for_task: of a trained model to be measured on the table: all windows are the test part, of
            the model's ``look_back`` where none is given. Nothing is scaled: see
            ``Dataset.for_model_of``.

    Raises:
        DataError: the file cannot be learnt from; the message names file, line and column.
        ConfigError: a key is out of range, or a column that was asked for does not exist.
    """
    table = read_table(
        Path(options.file).expanduser(),
        delimiter=options.delimiter,
        decimal=options.decimal,
        thousands=options.thousands,
    )
    target, look_back, horizon = options.target, options.look_back, options.horizon
    table.require(target, "dataset.target")
    for column in options.columns:
        table.require(column, "dataset.columns")
    used = (target, *options.columns)
    series = np.stack([table.numbers(column) for column in used], axis=1)
    times = find_dates(table, options.dates, options.date_format, used)
    parts = Parts.by_fractions(
        len(series),
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
    )
    if for_task is not None:
        parts = Parts(0, 0, len(series))
        if look_back is None and for_task.sequence:
            look_back = for_task.input_shape[0]
    rows = min(LONGEST_LOOK_BACK, max(1, len(series) // 10)) if look_back is None else look_back
    windows = Windows(rows, horizon, options.stride)
    usable = None
    gaps = int(np.isnan(series).sum())
    if gaps:
        rule = rule_for(series, options.missing)
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
    differenced = options.difference == "always" or (
        options.difference == "auto" and len(training) > 1 and is_steadier(training, 0)
    )
    dataset, chosen = make_dataset(
        "csv",
        series,
        SeriesSplit(windows, parts, usable),
        Forecast(target, 0, horizon),
        normalize=options.normalize,
        source=str(table.file),
        differenced=differenced,
    )
    assumed = _Assumptions(table, used, times, windows, parts)
    sentences = [*assumed.columns(options.dates), *assumed.split(look_back, horizon)]
    if options.difference == "auto":
        sentences.append(assumed.differences(training, differenced))
    if gaps:
        samples = sum(len(each) for each in chosen.values())
        asked = "dataset.missing=error refuses" if options.missing == "auto" else "as asked for"
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
        values, changes = (np.nanstd(each[:, 0]) for each in (training, np.diff(training, axis=0)))
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
        if len(known) and known.min() == known.max():
            raise DataError(
                f"{table.file}: lines {table.lines[0]}-{table.lines[len(training) - 1]}, column"
                f" {column!r}: constant, {known[0]:g} in all training rows; nothing can be learnt"
                " from it"
            )
