"""Rows of numbers of a user's table, CSV or Parquet, in blocks.

A cell that is no number makes its row unusable, and is named; the rows around it are read.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from idl_cli.data.files.dates import DATE_NAMES
from idl_cli.data.files.numbers import Decimal, Thousands, parse_number
from idl_cli.data.files.table import LONGEST_HEADER, Delimiter, delimiter_in, is_empty
from idl_cli.errors import ConfigError, DataError, MissingExtraError
from idl_cli.export.reading.rows import Numbers


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read, and how its numbers are written.

    Args:
        names: of the columns; None for all of a table that has just ``count``.
        count: how many numbers a row has.
        label: column of dates that names the rows, ``auto`` for one called like dates; None for
            their lines.
        delimiter: between columns.
        decimal: decimal sign.
        thousands: sign between groups of three digits.
    """

    names: Sequence[str] | None
    count: int
    label: str | None = None
    delimiter: Delimiter = "auto"
    decimal: Decimal = "point"
    thousands: Thousands | None = None


@dataclass(frozen=True)
class TableBlock:
    """Some rows of a table.

    Args:
        names: what the rows are called.
        numbers: (m, columns); NaN where there is none.
        problems: what is wrong with a row, by its position in the block.
    """

    names: list[str]
    numbers: Numbers
    problems: dict[int, str]


def csv_blocks(stream: TextIO, where: str, columns: Columns, block: int) -> Iterator[TableBlock]:
    """Rows of text; a first line of numbers alone is a row, any other the header.

    Args:
        stream: text in UTF-8, opened with ``errors="surrogateescape"`` and ``newline=""``.
        where: the table's name in messages.
        columns: what is read.
        block: rows read at a time.

    Raises:
        DataError: there are no rows, or the text is no table.
        ConfigError: a column is not there, or which are meant cannot be told.
    """
    first = stream.readline(LONGEST_HEADER)
    if not first.strip():
        raise DataError(f"{where}: is empty, or begins with an empty line")
    if "\0" in first or any(0xDC80 <= ord(sign) <= 0xDCFF for sign in first):
        raise DataError(f"{where}: is no text in UTF-8; save it as such")
    sign = delimiter_in(first, columns.delimiter)

    def lines() -> Iterator[str]:
        yield first
        yield from stream

    reader = csv.reader(lines(), delimiter=sign, strict=True, skipinitialspace=True)
    numbered = _numbered(reader, where)
    line, cells = next(numbered)
    bare = all(
        parse_number(cell.strip(), columns.decimal, columns.thousands) is not None for cell in cells
    )
    header = None if bare else [cell.strip() for cell in cells]
    places = _places(header, len(cells), columns, where)
    label = None if header is None else _label(header, columns)
    rows = numbered if header is not None else _before((line, cells), numbered)
    width, count = len(cells), 0
    while chunk := list(islice(rows, block)):
        count += len(chunk)
        yield _parsed(chunk, places, label, width, header, columns)
    if not count:
        raise DataError(f"{where}: a header, but no rows follow")


def parquet_blocks(file: Path, where: str, columns: Columns, block: int) -> Iterator[TableBlock]:
    """Rows of a Parquet file; arguments and errors as of ``csv_blocks``.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    require_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(file)
        header = list(source.schema_arrow.names)
        places = _places(header, len(header), columns, where)
        label = _label(header, columns)
        wanted = [header[place] for place in places]
        read, first = [*wanted, *([] if label is None else [header[label]])], 0
        for batch in source.iter_batches(batch_size=block, columns=read):
            numbers, problems = np.full((len(batch), len(wanted)), np.nan), dict[int, str]()
            for index, name in enumerate(wanted):
                column = batch.column(name)
                try:
                    numbers[:, index] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
                except pa.ArrowInvalid as error:
                    raise DataError(
                        f"{where}: column {name!r} holds no numbers ({error})"
                    ) from error
            for row, index in np.argwhere(~np.isfinite(numbers)):
                problems.setdefault(int(row), _no_number("", wanted[index]))
            numbers[~np.isfinite(numbers)] = np.nan
            texts = [str(first + row) for row in range(len(batch))]
            if label is not None:
                texts = list(map(str, batch.column(header[label]).to_pylist()))
            yield TableBlock(texts, numbers, problems)
            first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where}: not an intact Parquet file ({error})") from error
    if not first:
        raise DataError(f"{where}: holds no rows")


def require_parquet() -> None:
    """Make sure that pyarrow is there.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'idl-cli[parquet]'")


def _numbered(reader: Iterator[list[str]], where: str) -> Iterator[tuple[int, list[str]]]:
    line = 0
    try:
        for cells in reader:
            line = reader.line_num  # type: ignore[attr-defined]
            if any(cell.strip() for cell in cells):
                yield line, cells
    except csv.Error as error:
        raise DataError(
            f"{where}: line {line + 1}: not a table ({error}: is a quotation mark never closed?)"
        ) from error


def _before(
    first: tuple[int, list[str]], others: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from others


def _places(header: Sequence[str] | None, width: int, columns: Columns, where: str) -> list[int]:
    """Positions of the columns that are read."""
    if header is None:
        if width != columns.count:
            raise DataError(
                f"{where}: {width} numbers in the first row, where the model takes {columns.count}"
            )
        return list(range(width))
    there = ", ".join(map(repr, header[:20]))
    if columns.names is not None:
        missing = [name for name in columns.names if name not in header]
        if missing:
            raise ConfigError([f"{where}: has no column {missing[0]!r}; its header names {there}"])
        twice = [name for name in columns.names if list(header).count(name) > 1]
        if twice:
            raise DataError(f"{where}: column {twice[0]!r} is named twice")
        chosen = [list(header).index(name) for name in columns.names]
    else:
        label = _label(header, columns)
        chosen = [place for place in range(len(header)) if place != label]
    if len(chosen) != columns.count:
        raise ConfigError(
            [
                f"columns: {len(chosen)} of {where}, where the model takes {columns.count} numbers"
                f" a row; give columns=[…] in the order of the training; the header names {there}"
            ]
        )
    return chosen


def _label(header: Sequence[str], columns: Columns) -> int | None:
    """Position of the column that names the rows."""
    if columns.label != "auto":
        return header.index(columns.label) if columns.label in header else None
    used = columns.names or ()
    dates = (
        place
        for place, name in enumerate(header)
        if name.lower() in DATE_NAMES and name not in used
    )
    return next(dates, None)


def _parsed(
    rows: Sequence[tuple[int, list[str]]],
    places: Sequence[int],
    label: int | None,
    width: int,
    header: Sequence[str] | None,
    columns: Columns,
) -> TableBlock:
    names, problems = [], dict[int, str]()
    numbers = np.full((len(rows), len(places)), np.nan)
    for row, (line, cells) in enumerate(rows):
        named = label is not None and label < len(cells)
        names.append(cells[label].strip() if named and label is not None else f"line {line}")
        if len(cells) != width:
            problems[row] = f"line {line}: {len(cells)} cells, where the first line has {width}"
            continue
        for index, place in enumerate(places):
            cell = cells[place].strip()
            value = None
            if not is_empty(cell):
                value = parse_number(cell, columns.decimal, columns.thousands)
            if value is not None and np.isfinite(value):
                numbers[row, index] = value
                continue
            column = str(place + 1) if header is None else header[place]
            problems.setdefault(row, f"line {line}: {_no_number(cell, column)}")
    return TableBlock(names, numbers, problems)


def _no_number(cell: str, column: str) -> str:
    shown = cell.encode("utf-8", "backslashreplace").decode()
    return f"column {column!r} has {f'no number: {shown!r}' if shown else 'no value'}"
