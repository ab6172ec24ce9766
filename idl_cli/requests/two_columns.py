"""Two columns of plain text: what can be typed, and what it means, wrapped beside it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

_WIDEST: Final = 110
_LEFT: Final = 30
"""Widest entry whose meaning stands beside it, not below."""


def line_width() -> int:
    """Characters a line of help: those of the terminal, 80 where there is none, never too many."""
    return min(shutil.get_terminal_size().columns, _WIDEST)


def line_width_or_none() -> int | None:
    """Characters a line of a listing; None where nobody looks but a program, such as grep."""
    return line_width() if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def two_columns(entries: Iterable[tuple[str, str]], width: int | None) -> Iterator[str]:
    """Entries with their meanings beside them, or below those that are too wide.

    Args:
        entries: (what can be typed, meaning).
        width: characters a line; None to wrap nothing.
    """
    pairs = list(entries)
    widest = max((len(entry) for entry, _ in pairs), default=0)
    left = widest if width is None else min(widest, _LEFT)
    margin = " " * (left + 4)
    for entry, meaning in pairs:
        text = [meaning] if width is None else _wrapped(meaning, width - len(margin))
        if len(entry) > left:
            yield from _entry_lines(entry, width)
        else:
            yield f"  {entry:{left}}  {text.pop(0) if text else ''}".rstrip()
        yield from (f"{margin}{line}" for line in text)


def _entry_lines(entry: str, width: int | None) -> Iterator[str]:
    """A wide entry on lines of its own; a list in it goes on under its first entry."""
    if width is None or len(entry) + 2 <= width:
        yield f"  {entry}"
        return
    indent = " " * (entry.find("[") + 3)
    yield from textwrap.wrap(
        entry, width, initial_indent="  ", subsequent_indent=indent, break_long_words=False
    )


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)
