"""Runs as the points of curves: grouped by what they are, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, TypeGuard

from idl_cli.analysis.columns import number, text
from idl_cli.analysis.comparison import Entry, value_of

_WORDS: Final = {
    "accuracy": "accuracy (share of samples)",
    "top5_accuracy": "top-5 accuracy (share of samples)",
    "r2": "R²",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "mape": "mean absolute percentage error (%)",
    "loss": "loss",
}
_OF_RUN: Final = {
    "seconds": "time of the run (s)",
    "sim.agreement": "agreement with the teacher (share of test samples)",
    "sim.nonzero_fraction": "weights that are not zero (share)",
    "sim.state_fit": "relative residual of the states",
    "sim.inf_norm_A": "‖A‖∞",
    "sim.seconds_states": "time for the states (s)",
    "sim.seconds_ab": "time for A and B (s)",
    "sim.seconds_cd": "time for C and D (s)",
    "sim.ab.relative_gap": "relative duality gap of A and B",
    "sim.cd.relative_gap": "relative duality gap of C and D",
}


@dataclass(frozen=True)
class Point:
    """A mean over runs.

    Attributes:
        x: where.
        y: the mean.
        deviation: of a sample of runs; None for a single run.
    """

    x: float
    y: float
    deviation: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one kind of run, ascending in x."""

    label: str
    points: tuple[Point, ...]


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number that is no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def label_of(metric: str) -> str:
    """A metric in words: ``test_accuracy`` becomes ``test accuracy (share of samples)``."""
    if metric in _OF_RUN:
        return _OF_RUN[metric]
    part, _, name = metric.partition("_")
    return f"{part} {_WORDS[name]}" if name in _WORDS else metric


def kind_of(entry: Entry, keys: Sequence[str]) -> str:
    """What a run is by some keys: the value alone where there is one key."""
    values = [text(value_of(entry, key)) or "none" for key in keys if _has(entry, key)]
    return ", ".join(values)


def _has(entry: Entry, key: str) -> bool:
    return key in entry.keys or value_of(entry, key) is not None


def series_of(
    entries: Sequence[Entry], key: str, metric: str, kinds: Sequence[str]
) -> list[Series]:
    """One series a kind: the metric's mean at every value of a key.

    Args:
        entries: completed runs that have the metric.
        key: numeric, on the abscissa.
        metric: a figure.
        kinds: keys whose values make a kind.
    """
    return [
        Series(kind, tuple(_mean_points(members, key, metric)))
        for kind, members in grouped(entries, kinds).items()
    ]


def points_of(
    entries: Sequence[Entry],
    position: Callable[[Entry], object],
    metric: str,
    kinds: Sequence[str],
    scale: float = 1,
) -> list[Series]:
    """One series a kind with a point a run, at ``position``; runs without a position are left out.

    Args:
        entries: completed runs that have the metric.
        position: where a run stands on the abscissa.
        metric: a figure.
        kinds: keys whose values make a kind.
        scale: factor of the positions.
    """
    found = []
    for kind, members in grouped(entries, kinds).items():
        placed = [(position(entry), entry.figures[metric]) for entry in members]
        points = [Point(scale * x, float(str(y))) for x, y in placed if is_number(x)]
        if points:
            found.append(Series(kind, tuple(sorted(points, key=lambda point: point.x))))
    return found


def grouped(entries: Sequence[Entry], kinds: Sequence[str]) -> dict[str, list[Entry]]:
    """Runs by kind, in the order in which the kinds first occur."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(kind_of(entry, kinds), []).append(entry)
    return groups


def mean_and_deviation(entries: Sequence[Entry], metric: str) -> tuple[float, float | None]:
    """Of a figure that all of the runs have; the deviation is a sample's, None for one run."""
    values = [float(str(entry.figures[metric])) for entry in entries]
    return fmean(values), stdev(values) if len(values) > 1 else None


def _mean_points(entries: Sequence[Entry], key: str, metric: str) -> list[Point]:
    by_value: dict[float, list[Entry]] = {}
    for entry in entries:
        value = entry.keys.get(key)
        if is_number(value):
            by_value.setdefault(float(value), []).append(entry)
    return [
        Point(value, *mean_and_deviation(members, metric))
        for value, members in sorted(by_value.items())
    ]


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows the values better: all positive, over a decade or more."""
    return min(values) > 0 and max(values) >= 10 * min(values)


def tick(value: float) -> str:
    """A value beside an axis."""
    return number(int(value) if float(value).is_integer() and abs(value) < 1e5 else value)
