"""Robustness as figures: accuracy against ε, and what each class is sensitive to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from idl_cli.analysis.styles import style, tidy

_WIDTH, _HEIGHT = 5.4, 3.8  # inches
_MAP = 1.6  # inches of a map's side
_MOST_MAPS = 20
_COLUMNS = 5


def robustness_curves(epsilon: Sequence[float], accuracy: Mapping[str, Sequence[float]]) -> Figure:
    """Draw accuracies against ε.

    Args:
        epsilon: radii, ascending.
        accuracy: shares of samples by what is counted, such as clean, attacked, certified.
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for index, (name, shares) in enumerate(accuracy.items()):
        look = style(index)
        axis.plot(
            epsilon,
            shares,
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markersize=4,
            label=name,
        )
    axis.set_xlabel("ε, in the unit of the data")
    axis.set_ylabel("accuracy (share of samples)")
    axis.set_ylim(-0.02, 1.02)
    tidy(axis)
    axis.legend(frameon=False)
    return figure


def sensitivity_maps(maps: npt.NDArray[np.float64], names: Sequence[str]) -> Figure:
    """Draw how much each pixel can move each output, |S| a class, on one common scale.

    Args:
        maps: (q, height, width); at most twenty classes are drawn.
        names: of the classes (q,).
    """
    maps = maps[:_MOST_MAPS]
    columns = min(_COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(_MAP * columns, _MAP * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    largest = float(maps.max()) or 1.0
    for axis in axes:
        axis.set_axis_off()
    for axis, image, name in zip(axes, maps, names, strict=False):
        drawn = axis.imshow(image, cmap="viridis", vmin=0, vmax=largest)
        axis.set_title(name, fontsize=8)
    figure.colorbar(drawn, ax=axes.tolist(), shrink=0.8, label="outputs a unit of input")
    return figure
