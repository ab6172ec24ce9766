"""A metric over two numeric keys, as heat maps whose cells also say it in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from idl_cli.analysis.comparison import Entry
from idl_cli.analysis.series import grouped, is_number, label_of, mean_and_deviation, tick

_MOST_PANELS: Final = 6
_MOST_FIGURES: Final = 150  # cells with figures in them: more would not be legible
_COLOURS: Final = "cividis"  # its lightness is monotone: the same order in grey


def heat_maps(
    entries: Sequence[Entry], first: str, second: str, metric: str, kinds: Sequence[str]
) -> Figure:
    """Draw a panel for each kind of run; a cell without a completed run stays hatched.

    Args:
        entries: completed runs that have the metric.
        first: numeric key, from left to right.
        second: numeric key, upwards.
        metric: a figure, averaged over the runs of a cell.
        kinds: keys whose values make a kind; the first six kinds are drawn.
    """
    panels = list(grouped(entries, kinds).items())[:_MOST_PANELS]
    columns, rows = _values(entries, first), _values(entries, second)
    grids = [_grid(members, (first, columns), (second, rows), metric) for _, members in panels]
    finite = np.concatenate([grid[0][np.isfinite(grid[0])] for grid in grids])
    low, high = float(finite.min()), float(finite.max())
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    size = (1.4 + across * max(2.6, 0.75 * len(columns)), 0.8 + down * max(2.2, 0.5 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (kind, _), grid in zip(axes, panels, grids, strict=False):
        _draw(axis, *grid, low, high)
        axis.set_xticks(range(len(columns)), [tick(value) for value in columns])
        axis.set_yticks(range(len(rows)), [tick(value) for value in rows])
        axis.set_title(kind, fontsize="medium")
        axis.set_xlabel(first)
        axis.set_ylabel(second)
    drawn = axes[0].images[0]
    figure.colorbar(drawn, ax=axes[: len(panels)].tolist(), label=label_of(metric))
    return figure


def _values(entries: Sequence[Entry], key: str) -> list[float]:
    values = (entry.keys.get(key) for entry in entries)
    return sorted({float(value) for value in values if is_number(value)})


def _grid(
    entries: Sequence[Entry],
    first: tuple[str, list[float]],
    second: tuple[str, list[float]],
    metric: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means and deviations, (rows, columns); NaN where there is no run, or only one."""
    means = np.full((len(second[1]), len(first[1])), np.nan)
    deviations = np.full_like(means, np.nan)
    cells: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        x, y = entry.keys.get(first[0]), entry.keys.get(second[0])
        if is_number(x) and is_number(y):
            cells.setdefault((second[1].index(y), first[1].index(x)), []).append(entry)
    for cell, members in cells.items():
        mean, deviation = mean_and_deviation(members, metric)
        means[cell] = mean
        deviations[cell] = np.nan if deviation is None else deviation
    return means, deviations


def _draw(
    axis: Axes,
    means: npt.NDArray[np.float64],
    deviations: npt.NDArray[np.float64],
    low: float,
    high: float,
) -> None:
    axis.patch.set(hatch="///", edgecolor="0.8", facecolor="white")
    if low == high:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    axis.imshow(means, cmap=_COLOURS, vmin=low, vmax=high, origin="lower", aspect="auto")
    if means.size > _MOST_FIGURES:
        return
    for (row, column), mean in np.ndenumerate(means):
        if not math.isfinite(mean):
            continue
        said = f"{mean:.3g}"
        if math.isfinite(deviations[row, column]):
            said += f"\n± {deviations[row, column]:.1g}"
        dark = (mean - low) < 0.55 * (high - low)
        colour = "white" if dark else "black"
        axis.text(column, row, said, ha="center", va="center", color=colour, fontsize=8)
