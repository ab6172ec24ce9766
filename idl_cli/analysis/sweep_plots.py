"""Curves, bars and trade-offs over the runs of a comparison, told apart in grey too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from idl_cli.analysis.columns import with_deviation
from idl_cli.analysis.comparison import Entry
from idl_cli.analysis.ranking import is_higher_better
from idl_cli.analysis.series import (
    Series,
    grouped,
    is_number,
    label_of,
    mean_and_deviation,
    spans_decades,
    tick,
)
from idl_cli.analysis.styles import style, tidy

_MOST_SERIES: Final = 12  # lines that can still be told apart
_MOST_BARS: Final = 30
_MOST_TICKS: Final = 8
_LETTERS: Final = 76  # of a line of text across a figure
_DECADES: Final = 3  # below so many, a logarithmic axis has ticks at 2 and 5 too
_GREY: Final = "0.45"


def curves(lines: Sequence[Series], key: str, metric: str) -> Figure:
    """Draw a metric against a numeric key, a line a series, deviations as bars.

    Args:
        lines: at most twelve are drawn, those that reach the best value.
        key: on the abscissa; logarithmic where its values span a decade.
        metric: on the ordinate.
    """
    figure, axis = _single()
    lines = _best(lines, metric)
    for index, line in enumerate(lines):
        _draw(axis, line, index, len(lines), joined=True)
    _place_ticks(axis, [point.x for line in lines for point in line.points])
    axis.set_xlabel(key)
    axis.set_ylabel(label_of(metric))
    _legend(figure, axis)
    return figure


def trade_off(
    lines: Sequence[Series],
    metric: str,
    label: str,
    *,
    joined: bool,
    reference: float | None = None,
) -> Figure:
    """Draw a metric against what it costs, a point a run.

    Args:
        lines: at most twelve are drawn, those that reach the best value.
        metric: on the ordinate.
        label: of the abscissa, which is logarithmic where its values span a decade.
        joined: whether the points of a series follow from one another.
        reference: the teacher's, drawn as a horizontal line.
    """
    figure, axis = _single()
    lines = _best(lines, metric)
    for index, line in enumerate(lines):
        _draw(axis, line, index, len(lines), joined=joined)
    if reference is not None:
        axis.axhline(reference, color=_GREY, linewidth=1.0, linestyle=(0, (6, 3)), label="teacher")
    places = [point.x for line in lines for point in line.points]
    if spans_decades(places):
        axis.set_xscale("log")
        if math.log10(max(places) / min(places)) < _DECADES:
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(label)
    axis.set_ylabel(label_of(metric))
    _legend(figure, axis)
    return figure


def scatter_panels(entries: Sequence[Entry], keys: Sequence[str], metric: str) -> Figure:
    """Draw a panel a key with a point a run; the best at each value are joined.

    Args:
        entries: completed runs that have the metric.
        keys: numeric; the first six are drawn.
        metric: on the ordinates.
    """
    shown = keys[:6]
    across = min(3, len(shown))
    down = math.ceil(len(shown) / across)
    figure = Figure(figsize=(3.2 * across, 2.8 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    best = max if is_higher_better(metric) else min
    for axis, key in zip(axes, shown, strict=False):
        points = [
            (float(str(entry.keys[key])), float(str(entry.figures[metric])))
            for entry in entries
            if is_number(entry.keys.get(key))
        ]
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "o", markersize=4, color=style(0).color, alpha=0.5, label="a run")
        ends = [(value, best(b for a, b in points if a == value)) for value in sorted(set(x))]
        axis.plot(*zip(*ends, strict=True), color=style(3).color, linewidth=1.2, label="best")
        _place_ticks(axis, list(x))
        axis.set_xlabel(key)
        tidy(axis)
    for axis in axes[::across]:
        axis.set_ylabel(label_of(metric))
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def bars(entries: Sequence[Entry], kinds: Sequence[str], metric: str) -> Figure:
    """Draw a bar a kind of run, the best on top, with the deviation over its runs.

    Args:
        entries: completed runs that have the metric.
        kinds: keys whose values make a kind; at most thirty kinds are drawn.
        metric: the length of the bars.
    """
    found = [
        (kind, *mean_and_deviation(members, metric))
        for kind, members in grouped(entries, kinds).items()
    ]
    found.sort(key=lambda each: each[1], reverse=is_higher_better(metric) is True)
    found = found[:_MOST_BARS]
    figure = Figure(figsize=(6.0, 1.1 + 0.42 * len(found)), layout="constrained")
    axis = figure.subplots()
    for place, (_, mean, deviation) in enumerate(found):
        axis.barh(
            place,
            mean,
            height=0.62,
            color="#9CC5E3" if place else "#0072B2",
            edgecolor="#0072B2",
            linewidth=0.8,
            xerr=deviation,
            error_kw={"ecolor": "black", "elinewidth": 1.2, "capsize": 3},
        )
        end = mean + (deviation or 0) if mean >= 0 else deviation or 0
        said = with_deviation(mean, deviation)
        axis.annotate(
            said, (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axis.set_yticks(range(len(found)), [kind for kind, _, _ in found])
    axis.invert_yaxis()
    low, high = axis.get_xlim()
    ticks = [place for place in axis.get_xticks() if low <= place <= high]
    axis.set_xlim(low, high + 0.22 * (high - low))  # room for the figures
    axis.set_xticks(ticks)
    axis.set_xlabel(label_of(metric))
    axis.set_ylabel(", ".join(kinds))
    tidy(axis)
    axis.grid(visible=False, axis="y")
    axis.set_axisbelow(True)
    return figure


def seeds_plot(entries: Sequence[Entry], metric: str) -> Figure:
    """Draw the metric of every seed, their mean, and a deviation to either side."""
    figure, axis = _single(height=3.0)
    places = sorted(entries, key=lambda entry: float(str(entry.keys.get("seed", 0))))
    values = [float(str(entry.figures[metric])) for entry in places]
    axis.plot(range(len(values)), values, "o", color=style(0).color, markersize=7)
    mean, deviation = mean_and_deviation(places, metric)
    said = with_deviation(mean, deviation)
    axis.axhline(mean, color=_GREY, linewidth=1.0, linestyle="--", label=f"mean {said}")
    if deviation is not None:
        axis.axhspan(mean - deviation, mean + deviation, color="0.9", zorder=0)
    axis.set_xticks(range(len(values)), [str(entry.keys.get("seed")) for entry in places])
    axis.set_xlabel("seed")
    axis.set_ylabel(label_of(metric))
    _legend(figure, axis)
    return figure


def _single(height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, height), layout="constrained")
    axis = figure.subplots()
    tidy(axis)
    return figure, axis


def _draw(axis: Axes, line: Series, index: int, count: int, *, joined: bool) -> None:
    """One series; where several lie on each other, later markers are the smaller ones."""
    drawn = style(index)
    size = 6.0 if count == 1 else 10.0 - 6.0 * index / (count - 1)
    deviations = [point.deviation or 0 for point in line.points]
    axis.errorbar(
        [point.x for point in line.points],
        [point.y for point in line.points],
        yerr=deviations if any(deviations) else None,
        color=drawn.color,
        linestyle=drawn.linestyle if joined else "none",
        marker=drawn.marker,
        markersize=size,
        markerfacecolor=drawn.color if index >= _MOST_SERIES // 2 else "none",
        markeredgewidth=1.4,
        linewidth=1.3,
        capsize=3,
        label=line.label or None,
    )


def _best(lines: Sequence[Series], metric: str) -> list[Series]:
    """The series to draw: all, or the twelve that reach the best value."""
    high = is_higher_better(metric) is True

    def reached(line: Series) -> float:
        values = [point.y for point in line.points]
        return -max(values) if high else min(values)

    filled = [line for line in lines if line.points]
    best = sorted(filled, key=reached)[:_MOST_SERIES]
    return [line for line in filled if line in best]


def _place_ticks(axis: Axes, values: Sequence[float]) -> None:
    """The values themselves as ticks where they are few and apart, else a regular scale."""
    different = sorted(set(values))
    if spans_decades(different):
        axis.set_xscale("log")
        places = [math.log(value) for value in different]
    else:
        places = different
    gaps = [after - before for before, after in pairwise(places)]
    apart = gaps and min(gaps) > 0.08 * (places[-1] - places[0])
    if apart and len(different) <= _MOST_TICKS:
        axis.xaxis.set_major_locator(FixedLocator(different))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axis: Axes) -> None:
    """Above the axes, where it hides no point; in as many columns as its words leave room for."""
    labels = axis.get_legend_handles_labels()[1]
    if not labels:
        return
    columns = max(1, min(3, len(labels), _LETTERS // (max(map(len, labels)) + 8)))
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + 0.22 * (rows - 1))
    figure.legend(loc="outside upper center", ncols=columns, frameon=False)
