"""Tables that fit a terminal: columns as wide as their texts where there is room, words whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from idl_cli.console.figures import is_number, shown

_UNBROKEN: Final = 20  # letters of a word
_GAPS: Final = (3, 2)  # letters between columns: the usual, and where there is little room
_IN_WORDS: Final = re.compile(r"-?[\d.]+(e-?\d+)?( ± [\d.]+(e-?\d+)?)?( ?%)?")


def fitted_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], width: int
) -> Table:
    """A table of at most ``width`` letters; numbers stand right-aligned.

    Args:
        title: above it.
        columns: headings.
        rows: values, as many as there are headings.
        width: letters that there is room for.
    """
    cells = [[shown(value) for value in row] for row in rows]
    every = list(zip(columns, *cells, strict=True))
    gap, widths = _fitted(every, width)
    table = _empty(title, gap)
    for index, (column, letters) in enumerate(zip(columns, widths, strict=True)):
        numeric = all(_reads_as_number(row[index]) or row[index] is None for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(column), justify=justify, overflow="fold", width=letters)
    for line in cells:
        table.add_row(*map(Text, line))
    return table


def _empty(title: str, gap: int) -> Table:
    """An empty table whose columns stand ``gap`` letters apart."""
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1, 0, gap - 2),
    )


def _fitted(columns: Sequence[Sequence[str]], width: int) -> tuple[int, Sequence[int | None]]:
    """Gap between columns, and their widths in a table of ``width``: words whole where they fit.

    Args:
        columns: heading and cells of each.
        width: letters that there is room for.

    Returns:
        Widths of None where not even the words fit: the table breaks them as it must.
    """
    full = [max(map(len, column), default=0) for column in columns]
    words = [_longest_word(column) for column in columns]
    for gap in _GAPS:
        room = width - gap * len(columns) - 1
        if sum(full) <= room:
            return gap, full
        if sum(words) <= room:
            return gap, _widened(words, full, room - sum(words))
    return _GAPS[-1], [None] * len(columns)


def _widened(words: Sequence[int], full: Sequence[int], spare: int) -> list[int]:
    """Share out spare letters; who needs few gets them all, the longest texts what is left."""
    widths = list(words)
    order = sorted(range(len(words)), key=lambda index: full[index] - words[index])
    for place, index in enumerate(order):
        given = min(full[index] - words[index], spare // (len(order) - place))
        widths[index] += given
        spare -= given
    return widths


def _longest_word(texts: Sequence[str]) -> int:
    """Letters of the longest word, which a narrow table should not break; of a path, a few."""
    words = (word for text in texts for word in text.split())
    return min(max(map(len, words), default=0), _UNBROKEN)


def _reads_as_number(value: object) -> bool:
    """A number, or one in words already: ``87.5 %``, ``0.943 ± 0.003``."""
    return is_number(value) or (isinstance(value, str) and bool(_IN_WORDS.fullmatch(value)))
