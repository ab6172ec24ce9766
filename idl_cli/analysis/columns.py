"""The columns of a comparison: which there are, which are shown, what stands over and in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from idl_cli.analysis.comparison import Entry, Spread, metric_of, value_of, varying_keys
from idl_cli.analysis.ranking import last_part, reported_beside

_OF_SIM: Final = ("sim.nonzero_fraction", "sim.ab.status", "sim.ab.relative_gap")
_PROVEN: Final = ("certified_accuracy", "attacked_accuracy", "certified_radius")
_OF_RUN: Final = ("run", "status", "command", "runs", "failed", "error", "dir")
_STAGES: Final = ("sim.ab.", "sim.cd.")
_PERCENT: Final = ("nonzero_fraction",)
_DIGITS: Final = 4


@dataclass(frozen=True)
class Columns:
    """What may be shown of some runs, and what is shown when nobody says.

    Attributes:
        keys: all dotted keys of the configurations.
        every: all names: of the run, of configuration keys, of figures.
        shown: a legible choice of them.
        important: those shown, the most telling first.
    """

    keys: tuple[str, ...]
    every: tuple[str, ...]
    shown: tuple[str, ...]
    important: tuple[str, ...]


def columns_of(entries: Sequence[Entry], over: Sequence[str] = ()) -> Columns:
    """Find the columns of some runs.

    Args:
        entries: the runs, averaged already where they are to be.
        over: keys that were averaged over.
    """
    keys = dict.fromkeys(key for entry in entries for key in entry.keys)
    figures = dict.fromkeys(name for entry in entries for name in entry.figures)
    completed = all(entry.completed for entry in entries)
    who = [] if over and completed else ["run"]
    if len({entry.command for entry in entries}) > 1:
        who.append("command")
    if not completed:
        who.append("status")
    varying = [key for key in varying_keys(entries) if key not in over]
    counts = ["runs", "failed"] if any(entry.failed for entry in entries) else ["runs"]
    metrics = _metrics(entries)
    proven = [name for name in figures if name.startswith(_PROVEN)]
    usual = (name for name in ("seconds", *_OF_SIM) if name in figures)
    rest = [name for name in (*proven, *usual) if name not in metrics]
    every = dict.fromkeys((*_OF_RUN, *keys, *figures))
    return Columns(
        keys=tuple(keys),
        every=tuple(every),
        shown=(*who, *varying, *(counts if over else ()), *metrics, *rest),
        important=(*who, *metrics, *varying, *(counts if over else ()), *rest),
    )


def _metrics(entries: Sequence[Entry]) -> list[str]:
    """What the runs are ranked by, with a test figure; then those of runs that have none of it.

    Runs of another task are such.
    """
    found: list[str] = []
    left = list(entries)
    while (metric := metric_of(left)) is not None:
        found.append(metric)
        tested = reported_beside(metric, (entry.figures for entry in left))
        found += [] if tested is None else [tested]
        left = [entry for entry in left if metric not in entry.figures]
    return found


def data_columns(columns: Columns, entries: Sequence[Entry]) -> tuple[str, ...]:
    """All that a file for other programs holds: what tells the runs apart, and every figure."""
    figures = dict.fromkeys(name for entry in entries for name in entry.figures)
    first = [name for name in columns.shown if name not in figures]
    status = [] if "status" in first else ["status"]
    return (*first[:1], *status, *first[1:], *figures, "error", "dir")


def matching(name: str, columns: Columns) -> str | None:
    """The column that a name means: itself, or the only one whose last parts it is.

    A key of the configuration goes before a figure of the same last parts, a column that is shown
    anyway before one that is not.
    """
    if name in columns.every:
        return name
    for among in (columns.keys, columns.shown, columns.every):
        close = [column for column in among if column.endswith(f".{name}")]
        if close:
            return close[0] if len(close) == 1 else None
    return None


def headings(columns: Sequence[str]) -> list[str]:
    """The last part of each name where that is enough to tell the columns apart.

    Figures of one of the two stages of a state-driven run keep that stage's name: the ``status``
    of its certificate is not that of the run.
    """
    short = [
        column.removeprefix("sim.") if column.startswith(_STAGES) else last_part(column)
        for column in columns
    ]
    return [
        one if short.count(one) == 1 else column for one, column in zip(short, columns, strict=True)
    ]


def cells(entry: Entry, columns: Sequence[str]) -> list[str]:
    """What stands in a line, as people read it; empty where there is nothing."""
    return [
        "null"
        if column in entry.keys and entry.keys[column] is None
        else text(value_of(entry, column), column)
        for column in columns
    ]


def text(value: object, column: str = "") -> str:
    """A value in a few digits; shares of non-zeros in percent."""
    if value is None:
        return ""
    percent = column.rpartition(".")[2] in _PERCENT
    if isinstance(value, Spread):
        factor, sign = (100, " %") if percent else (1, "")
        return with_deviation(value.mean * factor, value.deviation, factor) + sign
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{100 * value:.1f} %" if percent else number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(each) for each in value) + "]"
    return str(value)


def number(value: float) -> str:
    """Four significant digits; whole numbers whole; the very large and small with an exponent."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 10**_DIGITS:
        return f"{value:.{_DIGITS}g}"
    if 10**_DIGITS <= abs(value) < 1e6:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def with_deviation(mean: float, deviation: float | None, factor: float = 1) -> str:
    """``0.9431 ± 0.0031``: two digits of the deviation, the mean to the same place."""
    if deviation is None:
        return number(mean)
    spread = deviation * factor
    if spread == 0:
        return f"{number(mean)} ± 0"
    place = 1 - math.floor(math.log10(spread))
    if place > 6 or abs(mean) >= 1e5:
        return f"{mean:.3g} ± {spread:.1g}"
    places = max(place, 0)
    return f"{mean:.{places}f} ± {spread:.{places}f}"


def as_data(entry: Entry, columns: Sequence[str]) -> dict[str, object]:
    """A line for other programs: a spread in two columns, ``NAME_mean`` and ``NAME_std``."""
    row: dict[str, object] = {}
    for column in columns:
        value = value_of(entry, column)
        if isinstance(value, Spread):
            row[f"{column}_mean"] = value.mean
            row[f"{column}_std"] = value.deviation
        else:
            row[column] = list(value) if isinstance(value, tuple) else value
    return row


def is_numeric(column: str, entries: Sequence[Entry]) -> bool:
    """Whether a column holds numbers and nothing else."""
    values = [value_of(entry, column) for entry in entries]
    told: Mapping[bool, int] = {
        kind: sum(_is_number(value) is kind for value in values if value is not None)
        for kind in (True, False)
    }
    return told[True] > 0 and told[False] == 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Spread) and not isinstance(value, bool)
