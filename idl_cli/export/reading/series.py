"""Windows of a user's series, each ending in another row: what a forecaster reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import torch

from idl_cli.data.files.date_forms import Reader, by_format, number, readers
from idl_cli.data.series.missing import Rule, fill
from idl_cli.data.series.windows import Parts
from idl_cli.errors import DataError
from idl_cli.export.reading.rows import Numbers, Rows
from idl_cli.export.reading.tables import TableBlock

_LONGEST_GAP: Final = 1 << 14
"""Rows that are kept to find what stood before a gap."""


def series_rows(
    blocks: Iterable[TableBlock], look_back: int, rule: Rule, where: str
) -> Iterator[Rows]:
    """Cut the window that ends in each row, from the first row that has a whole one.

    Gaps are filled as in training, by what stands in and before the window alone: one whose last
    row was filled by a line drawn to a later value would know the future, and cannot be used.

    Args:
        blocks: the rows in order of time.
        look_back: rows in a window.
        rule: what fills gaps.
        where: the table's name in a message.

    Yields:
        Windows (m, look_back, features), named after their last row.

    Raises:
        DataError: there is no whole window.
    """
    kept: Numbers | None = None
    seen = made = 0
    for block in blocks:
        series = block.numbers if kept is None else np.concatenate([kept, block.numbers])
        offset = len(series) - len(block.numbers)
        count = len(series)
        filled = fill(series, rule, Parts(count, count, count))
        first = max(offset, look_back - 1)  # the rows before it are history alone
        seen += len(block.numbers)
        ends = np.arange(first, count)
        if len(ends):
            windows = np.lib.stride_tricks.sliding_window_view(filled, look_back, axis=0)
            values = windows[ends - look_back + 1].transpose(0, 2, 1)
            problems = _problems(values, series[ends], rule)
            for index in problems:
                said = block.problems.get(int(ends[index]) - offset)
                problems[index] = problems[index] if said is None else f"{problems[index]} ({said})"
            usable = np.where(np.isnan(values), 0.0, values)
            names = [block.names[end - offset] for end in ends]
            made += len(ends)
            yield Rows(names, torch.from_numpy(np.ascontiguousarray(usable)), problems)
        kept = series[_start(series, look_back) :]
    if not made:
        raise DataError(f"{where}: {seen} rows, where the model reads windows of {look_back}")


def in_order(
    blocks: Iterable[TableBlock], date_format: str | None, where: str
) -> Iterator[TableBlock]:
    """The same blocks, refused where the dates that name their rows go back.

    Args:
        blocks: rows named after dates or numbers; those named otherwise are taken as they come.
        date_format: as for ``strptime``; None tries the forms that cannot be mistaken.
        where: the table's name in a message.

    Raises:
        DataError: a date does not come after the one before, or is none.
    """
    reader: Reader | None = None
    last: Any = None
    first = before = ""
    for block in blocks:
        if not first:
            first = block.names[0]
            forms = [by_format(date_format)] if date_format else [*readers(block.names), number]
            reader = next((each for each in forms if each(first) is not None), None)
        for name in block.names if reader is not None else ():
            now = None if reader is None else reader(name)
            if now is None:
                raise DataError(f"{where}: {name!r} is not a date like {first!r} of the first row")
            if last is not None and not now > last:
                raise DataError(
                    f"{where}: {name} does not come after {before} of the row before; sort the rows"
                    " by time"
                )
            last, before = now, name
        yield block


def _problems(windows: Numbers, last: Numbers, rule: Rule) -> dict[int, str]:
    gaps = np.isnan(windows).any(axis=(1, 2))
    found = {int(index): "a number of its window is missing" for index in np.flatnonzero(gaps)}
    if rule == "interpolate":
        ends = np.isnan(last).any(axis=1)
        found |= {int(index): "its last row has no value" for index in np.flatnonzero(ends)}
    return found


def _start(series: Numbers, look_back: int) -> int:
    """The first row that a later window needs: what a gap at its beginning is filled from, too."""
    first = max(0, len(series) - (look_back - 1))
    whole = np.flatnonzero(~np.isnan(series[: first + 1]).any(axis=1))
    return max(int(whole[-1]) if len(whole) else 0, len(series) - _LONGEST_GAP - look_back, 0)
