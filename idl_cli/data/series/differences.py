"""First differences of a series: how a forecast is learnt as a change from the last value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from idl_cli.data.moments import finite, mean_and_deviation
from idl_cli.errors import DataError

if TYPE_CHECKING:
    from idl_cli.data.split import Series
    from idl_cli.json_value import JSONValue

_ROUNDINGS = 4 * np.finfo(np.float64).eps
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
    def fit(
        cls, training: Series, target: int, horizon: int, *, magnitude: Series | None = None
    ) -> Differences:
        """Measure the changes of the training rows alone.

        Changes of an evenly spaced series differ by the rounding of its values alone; such a
        deviation is taken as none, and becomes 1.

        Args:
            training: rows (T, features) in the unit of a model's inputs; NaN where missing.
            target: the target's feature.
            horizon: steps forecast, fewer than rows.
            magnitude: largest absolute value of every feature (features,) before its mean was
                subtracted, in the unit of the rows; by default that of the rows themselves.
        """
        largest = np.nanmax(np.abs(training), axis=0)
        # What was subtracted and added again is rounded as what it was subtracted from.
        rounding = _ROUNDINGS * np.maximum(largest, 0 if magnitude is None else magnitude)
        ahead = [training[step:, target] - training[:-step, target] for step in _steps(horizon)]
        return cls(
            tuple(map(_deviation, np.diff(training, axis=0).T, rounding)),
            tuple(float(np.nanmean(changes)) for changes in ahead),
            tuple(_deviation(changes, rounding[target]) for changes in ahead),
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
        made = cls(*(_numbers(values[name]) for name in ("input_scale", "mean", "scale")))
        if min((*made.input_scale, *made.scale)) <= 0:
            raise DataError("not a description of changes: a scale is not positive")
        return made


def is_steadier(training: Series, target: int) -> bool:
    """Whether the target's changes spread less than its values, so that differencing helps.

    The usual rule for the order of differencing: the one of the smallest deviation. Deviations of
    changes and values are equal where neighbouring values correlate by one half.

    Args:
        training: rows (T, features) of the training part; NaN where missing.
        target: the target's feature.
    """
    values = training[:, target]
    return deviation(np.diff(values)) < deviation(values)


def deviation(values: Series) -> float:
    """Standard deviation of what is there of a column, whose squares float64 need not hold."""
    power = np.frexp(np.nanmax(np.abs(values)))[1]
    return float(np.ldexp(np.nanstd(np.ldexp(values, -power)), power))


def _steps(horizon: int) -> range:
    return range(1, horizon + 1)


def _deviation(changes: Series, rounding: float) -> float:
    deviation = float(mean_and_deviation(torch.from_numpy(changes[~np.isnan(changes)]))[1])
    return deviation if deviation > rounding else 1.0


def _numbers(values: object) -> tuple[float, ...]:
    assert isinstance(values, list | tuple)
    return tuple(finite(value) for value in values)
