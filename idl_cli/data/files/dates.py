"""The column of a table that says when: found, read, and checked to increase."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from idl_cli.data.files.date_forms import Reader, by_format, is_two_digit_year, number, readers
from idl_cli.data.files.table import Table, is_empty
from idl_cli.errors import ConfigError, DataError

DATE_NAMES: Final = frozenset(
    {"date", "dates", "datetime", "time", "timestamp", "year", "month", "day", "hour", "ds"}
)


@dataclass(frozen=True)
class Dates:
    """When the rows of a table are.

    Args:
        column: the column they were read from.
        values: (T,) datetime64[us], or float64 where the column holds numbers.
        found_by: why this column was taken, for a reader.
        irregular_steps: steps that are not within half and one and a half of the usual one.
        usual_step: the median step, in words.
    """

    column: str
    values: npt.NDArray[np.generic]
    found_by: str
    irregular_steps: int
    usual_step: str


def find_dates(
    table: Table, chosen: str | None, date_format: str | None, numbers: Collection[str]
) -> Dates | None:
    """Read the column of dates.

    Args:
        table: the table.
        chosen: its name, ``auto`` or None for no such column.
        date_format: as for ``strptime``; None tries the forms that cannot be mistaken
            (:mod:`idl_cli.data.files.date_forms`).
        numbers: columns that are used as numbers, which are no dates.

    Returns:
        The dates, None where there are none.

    Raises:
        DataError: a cell is no date or number, or the column does not strictly increase.
        ConfigError: there is no column of the chosen name, or a format and no column.
    """
    found = None if chosen is None else _find(table, chosen, date_format, numbers)
    if found is None and date_format is not None:
        where = "dataset.dates=null asks for none" if chosen is None else "none was found"
        raise ConfigError(
            [
                f"dataset.date_format={date_format}: of which column? {where}; give"
                " dataset.dates=COLUMN, or leave the format out"
            ]
        )
    return found


def _find(
    table: Table, chosen: str, date_format: str | None, numbers: Collection[str]
) -> Dates | None:
    if chosen != "auto":
        table.require(chosen, "dataset.dates")
        return _read(table, chosen, _reader(table, chosen, date_format), "dataset.dates")
    others = [column for column in table.header if column not in numbers]
    for column in others:
        if column.lower() in DATE_NAMES:
            return _read(table, column, _reader(table, column, date_format), "its name")
    for column in others:
        cells = table.cells(column)
        forms = iter([by_format(date_format)]) if date_format is not None else readers(cells)
        reader = next((each for each in forms if each(cells[0]) is not None), None)
        # Digits alone are dates where all of them are, in order; else they are some number.
        if reader is not None and (not cells[0].isdigit() or _increases(cells, reader)):
            return _read(table, column, reader, "its first cell")
    return None


def _reader(table: Table, column: str, date_format: str | None) -> Reader:
    """The way to read a column that holds dates or numbers."""
    cells = table.cells(column)
    if date_format is not None:
        reader = by_format(date_format)
        if reader(cells[0]) is None:
            raise DataError(
                f"{table.where(0, column)}: {cells[0]!r} is not as"
                f" dataset.date_format={date_format} says"
            )
        return reader
    forms = list(readers(cells))
    if is_two_digit_year(cells) and not any(_is_even(cells, each) for each in forms):
        raise DataError(
            f"{table.where(0, column)}: {cells[0]!r} may be a year of two digits, month and day;"
            " give their order by dataset.date_format, such as %y%m%d, or dataset.dates=null"
        )
    if forms:
        return forms[0]
    if number(cells[0]) is None:
        raise DataError(
            f"{table.where(0, column)}: {cells[0]!r} is no date that can be read without doubt;"
            " give its order by dataset.date_format, such as %d.%m.%Y, or dataset.dates=null"
        )
    return number


def _increases(cells: Sequence[str], reader: Reader) -> bool:
    read = [reader(cell) for cell in cells]
    return None not in read and all(
        after > before  # type: ignore[operator]
        for before, after in itertools.pairwise(read)
    )


def _is_even(cells: Sequence[str], reader: Reader) -> bool:
    """Whether cells that are all dates, in order, are about evenly spaced."""
    if not _increases(cells, reader):
        return False
    return _steps(np.array([reader(cell) for cell in cells], dtype="datetime64[us]"))[1] == 0


def _steps(values: npt.NDArray[np.generic]) -> tuple[float, int]:
    """The usual step, and how many are not within half and one and a half of it."""
    steps = np.diff(values).astype(np.float64)
    usual = float(np.median(steps)) if len(steps) else 0.0
    return usual, int(((steps < 0.5 * usual) | (steps > 1.5 * usual)).sum())


def _read(table: Table, column: str, reader: Reader, found_by: str) -> Dates:
    cells = table.cells(column)
    read: list[float | datetime] = []
    for row, cell in enumerate(cells):
        value = None if is_empty(cell) else reader(cell)
        if value is None:
            raise DataError(
                f"{table.where(row, column)}: {cell!r} is not a date like {cells[0]!r} of line"
                f" {table.lines[0]}"
            )
        if row and not value > read[-1]:  # type: ignore[operator]
            raise DataError(
                f"{table.where(row, column)}: {cell} does not come after {cells[row - 1]} of line"
                f" {table.lines[row - 1]}; rows must be in order of time, each time once: sort"
                " them, or choose dataset.dates=null"
            )
        read.append(value)
    dated = isinstance(read[0], datetime)
    values = np.array(read, dtype="datetime64[us]" if dated else np.float64)
    usual, irregular = _steps(values)
    return Dates(column, values, found_by, irregular, _step_in_words(usual, dated))


def _step_in_words(step: float, dated: bool) -> str:
    if not dated:
        return f"{step:g}"
    seconds = step / 1e6
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} seconds"
