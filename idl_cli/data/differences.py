"""First differences of a series: how a forecast is learnt as a change from the last value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from idl_cli.data.task import JSONValue
    from idl_cli.data.windows import Series

Differencing = Literal["auto", "always", "never"]
"""When a forecast is learnt from differences: see ``is_steadier``."""


@dataclass(frozen=True)
class Differences:
    """The changes that a forecaster reads and predicts, in units of their own spread.

    All numbers are in the unit of a model's inputs, that is after the preprocessing; they are
    Python floats, the same bits when written as JSON and read back.

    Args:
        input_scale: deviation of the change from one row to the next, one positive number a
            feature.
        mean: mean change of the target from the last value of a window, one number for each step
            of the horizon.
        scale: its deviation, positive, likewise.
    """

    input_scale: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, training: Series, target: int, horizon: int) -> Differences:
        """Measure the changes of the training rows alone.

        Args:
            training: rows (T, features) in the unit of a model's inputs; NaN where missing.
            target: the target's feature.
            horizon: steps forecast, fewer than rows.
        """
        ahead = [training[step:, target] - training[:-step, target] for step in _steps(horizon)]
        return cls(
            tuple(_deviation(column) for column in np.diff(training, axis=0).T),
            tuple(float(np.nanmean(changes)) for changes in ahead),
            tuple(_deviation(changes) for changes in ahead),
        )

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the numbers as plain JSON values."""
        return {
            "input_scale": list(self.input_scale),
            "mean": list(self.mean),
            "scale": list(self.scale),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Differences:
        """Remake the description from what ``to_dict`` returned."""
        return cls(*(_numbers(values[name]) for name in ("input_scale", "mean", "scale")))


def is_steadier(training: Series, target: int) -> bool:
    """Whether the target's changes spread less than its values, so that differencing helps.

    The usual rule for the order of differencing: the one of the smallest deviation. Deviations of
    changes and values are equal where neighbouring values correlate by one half.

    Args:
        training: rows (T, features) of the training part; NaN where missing.
        target: the target's feature.
    """
    values = training[:, target]
    return float(np.nanstd(np.diff(values))) < float(np.nanstd(values))


def _steps(horizon: int) -> range:
    return range(1, horizon + 1)


def _deviation(changes: Series) -> float:
    deviation = float(np.nanstd(changes))
    return deviation if deviation > 0 else 1.0


def _numbers(values: object) -> tuple[float, ...]:
    assert isinstance(values, list | tuple)
    return tuple(float(value) for value in values)
