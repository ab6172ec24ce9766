"""How dates are written: the forms that a reader cannot mistake, told from a whole column.

03/04/2021 is in no order that everybody would agree on, and 21-03-04 has a year of two digits:
such forms are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

import numpy as np

from idl_cli.data.files.numbers import parse_number

Reader = Callable[[str], float | datetime | None]

_ISO: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d([.,]\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?"
    r"|\d{8}T\d{4}(\d\d)?Z?"
)
_WEEK: Final = re.compile(r"(\d{4})-?W(\d\d)(?:-?([1-7]))?")
_QUARTER: Final = re.compile(r"(\d{4})[- ]?Q([1-4])|Q([1-4])[- /]?(\d{4})", re.IGNORECASE)
_FORMATS: Final = (
    (r"\d{4}/\d{1,2}/\d{1,2}", "%Y/%m/%d"),
    (r"\d{4}/\d{1,2}/\d{1,2} \d{1,2}:\d\d", "%Y/%m/%d %H:%M"),
    (r"\d{4}/\d{1,2}/\d{1,2} \d{1,2}:\d\d:\d\d", "%Y/%m/%d %H:%M:%S"),
    (r"\d{4}-\d{1,2}-\d{1,2}", "%Y-%m-%d"),
    (r"\d{4}-\d{1,2}", "%Y-%m"),
    (r"\d{4}/\d{1,2}", "%Y/%m"),
)
# Digits alone could be a count: their years must be ones that people measure in.
_YEARS: Final = "(17|18|19|20|21)"
_DIGITS: Final = (
    (_YEARS + r"\d{6}", "%Y%m%d"),
    (_YEARS + r"\d{12}", "%Y%m%d%H%M%S"),
    (_YEARS + r"\d{10}", "%Y%m%d%H%M"),
    (r"(19|20)\d{8}", "%Y%m%d%H"),
    (_YEARS + r"\d{4}", "%Y%m"),
)
# Units of a second and their digits: from 2001 to 2286 a time since 1970 has just so many.
_SINCE_1970: Final = ((10, 1), (13, 1_000), (16, 1_000_000), (19, 1_000_000_000))
_1970: Final = datetime(1970, 1, 1)


def readers(cells: Sequence[str]) -> Iterator[Reader]:
    """The ways to read a column: by the first cell where it has signs, by all where it is digits.

    Args:
        cells: of the column; the first decides unless all are digits.
    """
    if all(cell.isascii() and cell.isdigit() for cell in cells):
        yield from (each for each in _digit_readers() if None not in map(each, cells))
        return
    for pattern, form in _FORMATS:
        if re.fullmatch(pattern, cells[0]):
            yield by_format(form)
    yield from (each for each in (_iso, _week, _quarter) if each(cells[0]) is not None)


def by_format(form: str) -> Reader:
    """The way to read cells in a format of ``strptime``."""

    def read(cell: str) -> datetime | None:
        try:
            return _naive(datetime.strptime(cell, form))
        except (ValueError, OverflowError):  # of a zone that leads out of the years 1 to 9999
            return None

    return read


def number(cell: str) -> float | None:
    """A finite number, None for text."""
    value = parse_number(cell, "point")
    return None if value is None or not np.isfinite(value) else value


def is_two_digit_year(cells: Sequence[str]) -> bool:
    """Whether every cell is six digits that year, month and day of a date could be."""
    read = by_format("%y%m%d")
    return all(len(cell) == 6 and cell.isdigit() and read(cell) is not None for cell in cells)


def _digit_readers() -> Iterator[Reader]:
    for pattern, form in _DIGITS:
        yield _of_pattern(pattern, by_format(form))
    for digits, per_second in _SINCE_1970:
        yield _of_pattern(rf"[1-9]\d{{{digits - 1}}}", _since_1970(per_second))


def _of_pattern(pattern: str, reader: Reader) -> Reader:
    # strptime would take 202011 for the first of January with %Y%m%d.
    return lambda cell: reader(cell) if re.fullmatch(pattern, cell) else None


def _since_1970(per_second: int) -> Reader:
    def read(cell: str) -> datetime:
        seconds, rest = divmod(int(cell), per_second)
        return _1970 + timedelta(seconds=seconds, microseconds=rest * 1_000_000 // per_second)

    return read


def _iso(cell: str) -> datetime | None:
    if _ISO.fullmatch(cell) is None:
        return None
    try:
        # Python 3.10 does not read the Z of UTC.
        return _naive(datetime.fromisoformat(cell[:-1] + "+00:00" if cell[-1:] == "Z" else cell))
    except (ValueError, OverflowError):
        return None


def _week(cell: str) -> datetime | None:
    """ISO 8601, 4.1.4: a week, by its Monday, or a day of it."""
    found = _WEEK.fullmatch(cell)
    if found is None:
        return None
    try:
        return datetime.fromisocalendar(int(found[1]), int(found[2]), int(found[3] or 1))
    except ValueError:
        return None


def _quarter(cell: str) -> datetime | None:
    """A quarter, by its first day."""
    found = _QUARTER.fullmatch(cell)
    if found is None:
        return None
    year, quarter = int(found[1] or found[4]), int(found[2] or found[3])
    return datetime(year, 3 * quarter - 2, 1) if year else None


def _naive(moment: datetime) -> datetime:
    """The moment in UTC where it names its zone: datetime64 knows no zones."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(timezone.utc).replace(tzinfo=None)
