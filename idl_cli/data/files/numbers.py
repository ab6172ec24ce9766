"""Numbers as people write them: which sign is the decimal one, which only groups digits."""

from __future__ import annotations

import re
from collections.abc import Collection
from types import MappingProxyType
from typing import Final, Literal

Decimal = Literal["point", "comma"]
Thousands = Literal["comma", "point", "space", "apostrophe"]

_DECIMAL_SIGNS: Final = MappingProxyType({"point": ".", "comma": ","})
_THOUSANDS_SIGNS: Final = MappingProxyType(
    {
        "comma": ",",
        "point": ".",
        "space": " \u00a0\u2009\u202f",  # no-break and thin spaces, as typesetters have them
        "apostrophe": "'\u2019",
    }
)
# What to propose: groups of three digits first, since few columns have three decimals throughout.
_STYLES: Final[tuple[tuple[Decimal, Thousands | None], ...]] = (
    ("point", "comma"),
    ("point", "space"),
    ("point", "apostrophe"),
    ("comma", None),
    ("comma", "point"),
    ("comma", "space"),
    ("comma", "apostrophe"),
    ("point", None),
)


def parse_number(cell: str, decimal: Decimal, thousands: Thousands | None = None) -> float | None:
    """Read a number; None for text. Underscores, which Python allows, are text here.

    Args:
        cell: without spaces around it.
        decimal: the decimal sign.
        thousands: the sign between groups of three digits; cells without it are read too.
    """
    if thousands is not None:
        sign, point = _THOUSANDS_SIGNS[thousands], re.escape(_DECIMAL_SIGNS[decimal])
        if re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}([{sign}]\d{{3}})+({point}\d*)?", cell):
            cell = re.sub(f"[{sign}]", "", cell)
    if "_" in cell or (decimal == "comma" and "." in cell):
        return None
    try:
        return float(cell.replace(",", ".") if decimal == "comma" else cell)
    except ValueError:
        return None


def style_advice(cells: Collection[str], decimal: Decimal, thousands: Thousands | None) -> str:
    """The keys under which all of a column's cells are numbers; empty where there are none.

    Args:
        cells: the column's, those without a value left out.
        decimal: the sign that was tried.
        thousands: the sign that was tried.
    """
    for style in _STYLES:
        if style != (decimal, thousands) and _fits(cells, *style):
            wanted = {"decimal": (decimal, style[0]), "thousands": (thousands, style[1])}
            keys = [
                f"dataset.{key}={'null' if new is None else new}"
                for key, (old, new) in wanted.items()
                if new != old
            ]
            return f"; all cells of this column are numbers with {' and '.join(keys)}"
    return ""


def _fits(cells: Collection[str], decimal: Decimal, thousands: Thousands | None) -> bool:
    if any(parse_number(cell, decimal, thousands) is None for cell in cells):
        return False
    # Beside 1.023,5 nobody can tell what 1,023 is.
    doubtful = rf"[+-]?[1-9]\d{{0,2}}{re.escape(_DECIMAL_SIGNS[decimal])}\d{{3}}"
    return thousands is None or not any(re.fullmatch(doubtful, cell) for cell in cells)


def looks_like_thousands(cells: Collection[str]) -> bool:
    """Whether every comma stands before just three digits, as in 1,023, and some cells have none.

    Three decimals in each of them would be a coincidence.
    """
    grouped = [cell for cell in cells if "," in cell]
    return 0 < len(grouped) < len(cells) and all(
        re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell) for cell in grouped
    )
