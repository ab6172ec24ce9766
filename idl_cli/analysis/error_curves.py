"""Error against the distance from the training range, for one run or for the runs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idl_cli.analysis.styles import style, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLOOR_RATIO = 0.3  # where zeros are drawn, relative to the smallest positive error


@dataclass(frozen=True)
class ErrorCurve:
    """Errors of one model at every shift, over one or several runs.

    Args:
        label: what the legend calls it.
        shifts: f, ascending.
        errors: (runs, shifts).
    """

    label: str
    shifts: Sequence[float]
    errors: Sequence[Sequence[float]]


def error_curves(
    curves: Sequence[ErrorCurve], *, training: float, shift_label: str, error_label: str
) -> Figure:
    """Draw the mean error of every curve against the shift, both axes logarithmic.

    The band reaches from the smallest to the largest run. Errors of zero, which a logarithmic axis
    cannot hold, are drawn on its lower edge.

    Args:
        curves: one a model.
        training: the shift of the training samples, marked by a vertical line.
        shift_label: what f is.
        error_label: what the error is.
    """
    from matplotlib.figure import Figure  # heavy, and most runs draw none

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axis = figure.subplots()
    every = np.concatenate([np.ravel(np.array(curve.errors, dtype=float)) for curve in curves])
    positive = every[np.isfinite(every) & (every > 0)]
    floor = _FLOOR_RATIO * float(positive.min()) if len(positive) else 1e-3
    for index, curve in enumerate(curves):
        errors = np.maximum(np.array(curve.errors, dtype=float), floor)
        drawn = style(index)
        axis.plot(
            curve.shifts,
            errors.mean(axis=0),
            color=drawn.color,
            linestyle=drawn.linestyle,
            marker=drawn.marker,
            markersize=5,
            linewidth=1.6,
            label=curve.label,
        )
        if len(errors) > 1:
            low, high = errors.min(axis=0), errors.max(axis=0)
            axis.fill_between(curve.shifts, low, high, color=drawn.color, alpha=0.15, linewidth=0)
    axis.axvline(training, color="0.5", linewidth=0.9, label=f"training range (f = {training:g})")
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high < 10 * low:  # a decade at least, so that a flat curve looks flat
        middle = (low * high) ** 0.5
        axis.set_ylim(middle / 10**0.5, middle * 10**0.5)
    if len(positive) < len(every):
        axis.set_ylim(bottom=floor)
        error_label += f" (zeros at {floor:.1g})"
    axis.set_xlabel(shift_label)
    axis.set_ylabel(error_label)
    axis.legend(frameon=False)
    tidy(axis)
    return figure


def curve_of_rows(label: str, rows: Sequence[Mapping[str, object]]) -> ErrorCurve:
    """Return the curve of one run from the rows of its ``shift.json``; NaN where it is null."""
    ordered = sorted(rows, key=lambda row: float(str(row["shift"])))
    errors = [float("nan") if row["error"] is None else float(str(row["error"])) for row in ordered]
    return ErrorCurve(label, [float(str(row["shift"])) for row in ordered], [errors])
