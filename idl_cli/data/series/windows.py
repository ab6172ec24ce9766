"""From a series to samples: windows of the past and the values that follow, split in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.split import Series, Split


@dataclass(frozen=True)
class Windows:
    """How samples are cut from a series (T, features).

    The window of row t holds the rows t - look_back, …, t - 1, its targets are the values of the
    target's feature in the rows t, …, t + horizon - 1.

    Args:
        look_back: rows in a window.
        horizon: values forecast.
        stride: rows from one sample to the next.
        target: the target's feature.
    """

    look_back: int
    horizon: int
    stride: int
    target: int = 0

    def rows(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Rows t of the samples whose targets all lie in the rows first … last - 1.

        A window reaches back before ``first`` where there are rows: what a forecast may know is
        all of the past. Targets of two parts never overlap.
        """
        start = max(first, self.look_back)
        return np.arange(start, last - self.horizon + 1, self.stride, dtype=np.int64)

    def cut(
        self, series: Series, rows: npt.NDArray[np.int64], scaling: TargetScaling | None
    ) -> Split:
        """Cut the samples of the given rows.

        Args:
            series: all rows (T, features).
            rows: t of every sample.
            scaling: applied to the targets.

        Returns:
            Inputs (m, look_back, features) in their own unit, targets (m, horizon); float64.
        """
        values = torch.from_numpy(series)
        return Split(self._inputs(values, rows), self._targets(values, rows, scaling))

    def _inputs(self, values: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        if len(rows) == 0:
            return values.new_empty(0, self.look_back, values.shape[1])
        first, last = int(rows[0]), int(rows[-1])
        if len(rows) == 1 + (last - first) // self.stride:
            # Overlapping windows as a view: memory of the series, not look_back times as much.
            view = values[first - self.look_back : last].unfold(0, self.look_back, self.stride)
            return view.transpose(1, 2)
        steps = torch.from_numpy(rows[:, None] + np.arange(-self.look_back, 0))
        return values[steps]

    def _targets(
        self, values: Tensor, rows: npt.NDArray[np.int64], scaling: TargetScaling | None
    ) -> Tensor:
        steps = torch.from_numpy(rows[:, None] + np.arange(self.horizon))
        targets = values[:, self.target][steps]
        return targets if scaling is None else scaling.scale(targets)


@dataclass(frozen=True)
class Parts:
    """Rows where the parts of a series begin: training, validation, test, in this order of time.

    Args:
        validation: first row of the validation part.
        test: first row of the test part; equal to ``validation`` where there is none.
        end: number of rows.
    """

    validation: int
    test: int
    end: int

    @classmethod
    def by_fractions(cls, rows: int, *, test_fraction: float, validation_fraction: float) -> Parts:
        """Give the last round(test_fraction · rows) rows to the test part.

        Of those before, the last round(validation_fraction · rest) are the validation part.
        """
        test = rows - round(test_fraction * rows)
        return cls(test - round(validation_fraction * test), test, rows)

    def bounds(self) -> dict[str, tuple[int, int]]:
        """First row and row after the last of every part that is not empty."""
        every = {
            "train": (0, self.validation),
            "validation": (self.validation, self.test),
            "test": (self.test, self.end),
        }
        return {name: rows for name, rows in every.items() if rows[0] < rows[1]}
