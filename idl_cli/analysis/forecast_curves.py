"""A forecast beside what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from idl_cli.analysis.styles import style, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 400  # of one panel: more would hide how a forecast lags
_ENLARGED_POINTS = 200


def forecast_curves(
    times: npt.NDArray[np.generic],
    truth: npt.NDArray[np.float64],
    forecast: npt.NDArray[np.float64],
    *,
    time_label: str,
    target: str,
    step: int,
) -> Figure:
    """Draw the forecast of a fixed step ahead and the truth over the whole test part.

    Where there are many samples a second panel enlarges those where the truth varies most.

    Args:
        times: (m,), numbers or datetime64.
        truth: (m,), in the target's unit.
        forecast: (m,), in the target's unit.
        time_label: what the times are.
        target: what is forecast.
        step: how many rows ahead.
    """
    from matplotlib.figure import Figure  # heavy, and most runs draw none

    enlarged = len(times) > _MOST_POINTS
    figure = Figure(figsize=(7.0, 5.6 if enlarged else 3.4), layout="constrained")
    panels = [slice(None)] + ([_liveliest(truth)] if enlarged else [])
    for axis, part in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
    ):
        for index, (values, label, width) in enumerate(
            ((truth, "truth", 1.8), (forecast, "forecast", 1.2))
        ):
            drawn = style(index)
            axis.plot(
                times[part],
                values[part],
                color=drawn.color,
                linestyle=drawn.linestyle,
                linewidth=width,
                label=label,
            )
        axis.set_xlabel(time_label)
        axis.set_ylabel(target)
        tidy(axis)
    figure.axes[0].set_title(
        f"test part, forecast {step} row{'s' if step > 1 else ''} ahead", fontsize="medium"
    )
    figure.axes[0].legend(frameon=False)
    return figure


def _liveliest(values: npt.NDArray[np.float64]) -> slice:
    """Where the variance over ``_ENLARGED_POINTS`` values is largest."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _ENLARGED_POINTS)
    first = int(windows.var(axis=1).argmax())
    return slice(first, first + _ENLARGED_POINTS)
