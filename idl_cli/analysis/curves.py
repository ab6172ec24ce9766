"""How a training went, as figures: loss, accuracy, iterations, residual, ‖A‖∞ by epoch.

Matplotlib's object interface only: no global figure, no window, safe in any thread. Every curve
has its own marker and dash pattern beside its colour, so that the figures read in grey too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.analysis.styles import CURVE_STYLES, CurveStyle, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, object]


_SPLIT_STYLES: Final = dict(zip(("train", "validation", "test"), CURVE_STYLES, strict=False))

_LABELS: Final = {
    "accuracy": "accuracy (share of samples)",
    "r2": "R²",
    "mse": "mean squared error",
}
_WIDTH, _HEIGHT = 5.0, 3.6  # inches, of one panel
_MAX_MARKERS = 15


def learning_curves(
    rows: Sequence[Row], best_epoch: int | None = None, *, squared_error: bool = False
) -> Figure:
    """Draw loss and accuracy (or R², or mean squared error) of every part against the epoch.

    Args:
        rows: rows of ``metrics.jsonl``.
        best_epoch: marked by a vertical line where there is one.
        squared_error: whether the loss is the mean squared error, not the cross-entropy.
    """
    loss = "loss (mean squared error)" if squared_error else "loss (nats a sample)"
    metric = next((name for name in _LABELS if any(name in row for row in rows)), None)
    panels = ["loss"] + ([] if metric is None else [metric])
    figure, axes = _panels(len(panels))
    for axis, name in zip(axes, panels, strict=True):
        for split, style in _SPLIT_STYLES.items():
            _draw(axis, rows, split, name, split, style)
        axis.set_ylabel(_LABELS.get(name, loss))
        if best_epoch is not None:
            axis.axvline(best_epoch, color="0.5", linewidth=0.8, label="model kept")
        axis.legend(frameon=False)
    _log_if_wide(axes[0], rows, "loss")
    return figure


def iteration_curves(
    rows: Sequence[Row], *, kappa: float | None = None, tol: float | None = None
) -> Figure:
    """Draw the solves of the training part: iterations, largest residual, ‖A‖∞, by epoch.

    Args:
        rows: rows of ``metrics.jsonl``.
        kappa: bound on ‖A‖∞, drawn as a horizontal line where there is one.
        tol: tolerance of the forward solves, drawn likewise.
    """
    figure, (iterations, residual, norm) = _panels(3)
    for key, label, style in (
        ("iterations_mean", "forward, mean", CURVE_STYLES[0]),
        ("iterations_max", "forward, largest", CURVE_STYLES[1]),
        ("backward_iterations_mean", "backward, mean", CURVE_STYLES[2]),
    ):
        _draw(iterations, rows, "train", key, label, style)
    iterations.set_ylabel("iterations a sample")
    for key, label, style in (
        ("residual_max", "forward", CURVE_STYLES[0]),
        ("backward_residual_max", "backward", CURVE_STYLES[1]),
    ):
        _draw(residual, rows, "train", key, label, style)
    residual.set_ylabel("largest relative residual")
    residual.set_yscale("log")
    if tol is not None:
        residual.axhline(tol, color="0.5", linewidth=0.8, linestyle="--", label="forward tol")
    low, high = residual.get_ylim()
    residual.set_ylim(low / 3, high * 3)  # residuals just below tol would fill the panel
    _draw(norm, rows, "train", "inf_norm_A", "‖A‖∞", CURVE_STYLES[0])
    if kappa is not None:
        norm.axhline(kappa, color="0.5", linewidth=0.8, linestyle="--", label="κ")
    norm.set_ylabel("‖A‖∞")
    norm.set_ylim(0.0, 1.05 * max(norm.get_ylim()[1], 1.0))
    for axis in (iterations, residual, norm):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # heavy, and only one rank draws
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(_WIDTH * count, _HEIGHT), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axis)
    return figure, axes


def _draw(
    axis: Axes, rows: Sequence[Row], split: str, key: str, label: str, style: CurveStyle
) -> None:
    points = [
        (row["epoch"], row[key])
        for row in rows
        if row.get("split") == split and isinstance(row.get(key), int | float)
    ]
    if not points:
        return
    single = len(points) == 1
    axis.plot(
        *zip(*points, strict=True),
        color=style.color,
        linestyle="none" if single else style.linestyle,
        marker=style.marker,
        markersize=8 if single else 4,
        markevery=max(1, math.ceil(len(points) / _MAX_MARKERS)),
        linewidth=1.6,
        label=label,
    )


def _log_if_wide(axis: Axes, rows: Sequence[Row], key: str) -> None:
    """Draw on a logarithmic scale what falls by more than a factor of ten."""
    values = [value for row in rows if isinstance(value := row.get(key), float) and value > 0]
    if values and max(values) > 10 * min(values):
        axis.set_yscale("log")
