"""The column of a table that says when: found, read, and checked to increase."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import numpy as np
import numpy.typing as npt

from idl_cli.data.table import Table, is_empty, parse_number
from idl_cli.errors import DataError

_NAMES: Final = frozenset(
    {"date", "dates", "datetime", "time", "timestamp", "year", "month", "day", "hour", "ds"}
)
# Formats that a reader cannot mistake; 03/04/2021 is in no order that everybody would agree on.
_FORMATS: Final = ("%Y%m%d", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y-%m", "%Y/%m")

Reader = Callable[[str], float | datetime | None]


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
        date_format: as for ``strptime``; None tries the formats that cannot be mistaken.
        numbers: columns that are used as numbers, which are no dates.

    Returns:
        The dates, None where there are none.

    Raises:
        DataError: a cell is no date or number, or the column does not strictly increase.
        ConfigError: there is no column of the chosen name.
    """
    if chosen is None:
        return None
    if chosen != "auto":
        table.require(chosen, "dataset.dates")
        return _read(table, chosen, date_format, "dataset.dates")
    others = [column for column in table.header if column not in numbers]
    for column in others:
        if column.lower() in _NAMES:
            return _read(table, column, date_format, "its name")
    for column in others:
        reader = _reader(table.cells(column)[0], date_format)
        if reader is not None and isinstance(reader(table.cells(column)[0]), datetime):
            return _read(table, column, date_format, "its first cell")
    return None


def _read(table: Table, column: str, date_format: str | None, found_by: str) -> Dates:
    cells = table.cells(column)
    reader = _reader(cells[0], date_format)
    if reader is None:
        raise DataError(
            f"{table.where(0, column)}: {cells[0]!r} is no date that can be read without doubt;"
            " give its order by dataset.date_format, such as %d.%m.%Y, or dataset.dates=null"
        )
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
    steps = np.diff(values).astype(np.float64)
    usual = float(np.median(steps)) if len(steps) else 0.0
    irregular = int(((steps < 0.5 * usual) | (steps > 1.5 * usual)).sum())
    return Dates(column, values, found_by, irregular, _step_in_words(usual, dated))


def _reader(example: str, date_format: str | None) -> Reader | None:
    """The way to read cells like the example."""
    if date_format is not None:
        return lambda cell: _by_format(cell, date_format)
    for each in (*(_format_reader(form) for form in _FORMATS), _iso, _number):
        if each(example) is not None:
            return each
    return None


def _format_reader(form: str) -> Reader:
    return lambda cell: _by_format(cell, form)


def _by_format(cell: str, form: str) -> datetime | None:
    try:
        return _naive(datetime.strptime(cell, form))
    except (ValueError, OverflowError):  # of a zone that leads out of the years 1 to 9999
        return None


def _iso(cell: str) -> datetime | None:
    try:
        # Python 3.10 does not read the Z of UTC.
        return _naive(datetime.fromisoformat(cell[:-1] + "+00:00" if cell[-1:] == "Z" else cell))
    except (ValueError, OverflowError):
        return None


def _naive(moment: datetime) -> datetime:
    """The moment in UTC where it names its zone: datetime64 knows no zones."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


def _number(cell: str) -> float | None:
    value = parse_number(cell, "point")
    return None if value is None or not np.isfinite(value) else value


def _step_in_words(step: float, dated: bool) -> str:
    if not dated:
        return f"{step:g}"
    seconds = step / 1e6
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} seconds"
