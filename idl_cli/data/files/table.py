"""Reading a user's table of text: a header, one row a line, columns by name.

Every complaint names the file, the line as an editor counts it, and the column.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.data.files.numbers import (
    Decimal,
    Thousands,
    looks_like_thousands,
    parse_number,
    style_advice,
)
from idl_cli.data.split import Series
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning

Delimiter = Literal["auto", "comma", "semicolon", "tab"]

LONGEST_HEADER: Final = 1 << 20  # characters in which columns are counted
_DELIMITERS: Final = (("comma", ","), ("semicolon", ";"), ("tab", "\t"))
_EMPTY: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class Table:
    """A table as read: text, no cell interpreted yet.

    Args:
        file: where it is from.
        header: names of the columns.
        rows: cells by row, as many as there are columns.
        lines: line of every row in the file, from 1.
        decimal: decimal sign of its numbers.
        thousands: sign between groups of three digits, None for none.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    decimal: Decimal
    thousands: Thousands | None = None

    def where(self, row: int, column: str) -> str:
        """Name a cell: file, line and column."""
        return f"{self.file}: line {self.lines[row]}, column {column!r}"

    def cells(self, column: str) -> list[str]:
        """The cells of a column, without the spaces around them."""
        index = self.header.index(column)
        return [row[index].strip() for row in self.rows]

    def require(self, column: str, key: str) -> None:
        """Refuse a column that is not there.

        Raises:
            ConfigError: the message names ``key`` and the columns there are.
        """
        if column not in self.header:
            near = difflib.get_close_matches(column, self.header, n=1)
            raise ConfigError(
                [
                    f"{key}={column}: {self.file} has no such column; its header names"
                    f" {', '.join(self.header)}{f' (did you mean {near[0]}?)' if near else ''}"
                ]
            )

    def numbers(self, column: str) -> Series:
        """The column as numbers (T,), NaN where a cell is empty.

        Raises:
            DataError: a cell holds text or an infinity.
        """
        cells = self.cells(column)
        values = np.empty(len(cells))
        for row, cell in enumerate(cells):
            values[row] = self._number(cell, row, column)
        known = [cell for cell in cells if not is_empty(cell)]
        if self.decimal == "comma" and self.thousands is None and looks_like_thousands(known):
            warnings.warn(
                f"{self.file}: column {column!r}: {next(cell for cell in known if ',' in cell)!r}"
                " and the like are read with a decimal comma, as dataset.decimal=comma says, but"
                " every comma stands before three digits; where they are thousands give"
                " dataset.decimal=point and dataset.thousands=comma",
                IgnoredOptionWarning,
                stacklevel=2,
            )
        return values

    def _number(self, cell: str, row: int, column: str) -> float:
        if is_empty(cell):
            return float("nan")
        number = parse_number(cell, self.decimal, self.thousands)
        if number is None:
            known = [each for each in self.cells(column) if not is_empty(each)]
            advice = style_advice(known, self.decimal, self.thousands)
            raise DataError(
                f"{self.where(row, column)}: {cell!r} is no number"
                f"{advice or '; correct it, or leave the cell empty and choose dataset.missing'}"
            )
        if np.isinf(number):
            raise DataError(
                f"{self.where(row, column)}: {cell} is not finite; correct it, or leave the cell"
                " empty and choose dataset.missing"
            )
        return number


def read_table(
    file: Path,
    *,
    delimiter: Delimiter = "auto",
    decimal: Decimal = "point",
    thousands: Thousands | None = None,
) -> Table:
    """Read a table in UTF-8, with or without quotes; blank lines are passed over.

    Args:
        file: the file.
        delimiter: between columns; ``auto`` is the most frequent one in the header.
        decimal: decimal sign of numbers.
        thousands: sign between groups of three digits, None for none.

    Raises:
        ConfigError: the decimal sign groups digits too.
        DataError: the file is missing, not text, without header or rows, or a row has more or
            fewer cells than the header.
    """
    if thousands == decimal:
        raise ConfigError(
            [f"dataset.thousands={thousands}: is dataset.decimal too; one sign means one thing"]
        )
    numbered: list[tuple[int, list[str]]] = []
    refuse_irregular(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(LONGEST_HEADER)
            stream.seek(0)
            reader = csv.reader(
                stream, delimiter=delimiter_in(first, delimiter), strict=True, skipinitialspace=True
            )
            for row in reader:
                numbered.append((reader.line_num, row))
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(_not_text(file, error)) from error
    except csv.Error as error:
        begun = numbered[-1][0] + 1 if numbered else 1
        raise DataError(
            f"{file}: line {begun}: not a table ({error}: is a quotation mark never closed?)"
        ) from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    numbered = [(line, row) for line, row in numbered if any(cell.strip() for cell in row)]
    if not numbered:
        raise DataError(f"{file}: is empty; a header line and rows are needed")
    (header_line, names), *rows = numbered
    header = _header(file, header_line, names, decimal)
    if not rows:
        raise DataError(f"{file}: line {header_line} is a header, but no rows follow")
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{file}: line {line}: {len(row)} cells, but the header names {len(header)} columns"
                f" ({', '.join(header)})"
            )
    return Table(
        file,
        header,
        tuple(tuple(row) for _, row in rows),
        tuple(line for line, _ in rows),
        decimal,
        thousands,
    )


def is_empty(cell: str) -> bool:
    """Whether a cell stands for a missing value."""
    return cell.lower() in _EMPTY


def _not_text(file: Path, error: UnicodeDecodeError) -> str:
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{file}: text in UTF-16; save it as UTF-8"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as whole:
        error = whole  # positions in the file, where those of the stream are in its last chunk
    line = content.count(b"\n", 0, error.start) + 1
    byte = error.object[error.start]
    return f"{file}: line {line}: byte {byte:#04x} is no text in UTF-8; save the file as UTF-8"


def delimiter_in(first: str, chosen: Delimiter) -> str:
    """The sign between columns, of a table whose first line this is."""
    if chosen == "auto":
        return max((sign for _, sign in _DELIMITERS), key=first.count)
    return dict(_DELIMITERS)[chosen]


def _header(file: Path, line: int, names: Sequence[str], decimal: Decimal) -> tuple[str, ...]:
    header = tuple(name.strip() for name in names)
    number = next((name for name in header if parse_number(name, decimal) is not None), None)
    if number is not None:
        raise DataError(
            f"{file}: line {line}, column {header.index(number) + 1}: {number!r} is a number where"
            " the name of a column belongs: the table has no header; add a first line that names"
            " its columns"
        )
    if "" in header:
        raise DataError(f"{file}: line {line}: column {header.index('') + 1} has no name")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{file}: line {line}: column {twice[0]!r} is named twice")
    return header
