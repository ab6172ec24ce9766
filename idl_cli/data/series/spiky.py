"""A series with sudden bursts, generated: forecasts of it must follow jumps, not trends.

Set-up of the time series in "The Extrapolation Power of Implicit Models", IJCAI 2024 (arXiv
2407.14430), as its authors' code generates it: 10,000 points x on [0, 100], of which 27 bursts of
107 points are 3.5·Σ sin(f x) with f in {2, 23, 78, 100}, all others sin x + N(0, 0.35²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from idl_cli.config.arguments import check_options
from idl_cli.data.dataset import Dataset, TimeAxis
from idl_cli.data.options import SpikyOptions
from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.split_in_time import SeriesSplit, make_dataset
from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series, Split
from idl_cli.data.synthetic.distributions import normal
from idl_cli.data.synthetic.shifts import Shifts

FREQUENCIES = (2.0, 23.0, 78.0, 100.0)


@dataclass(frozen=True)
class _Generator:
    points: int
    extent: float
    bursts: int
    burst_points: int
    amplitude: float
    noise: float
    seed: int

    def starts(self) -> npt.NDArray[np.int64]:
        """First points of the bursts: every arrangement without overlap is equally likely."""
        free = self.points - self.bursts * (self.burst_points - 1)
        chosen = random_permutation(free, Purpose.BURSTS, self.seed)[: self.bursts]
        return np.sort(chosen) + np.arange(self.bursts) * (self.burst_points - 1)

    def series(self, factor: float = 1.0, first_row: int = 0) -> Series:
        """The series (points, 1); bursts from ``first_row`` on are ``factor`` times as high."""
        x = np.linspace(0.0, self.extent, self.points)
        values = np.sin(x) + normal(self.points, self.noise, Purpose.NOISE, self.seed)
        waves = np.sin(np.multiply.outer(x, np.array(FREQUENCIES))).sum(axis=1)
        within = (self.starts()[:, None] + np.arange(self.burst_points)).ravel()
        values[within] = self.amplitude * waves[within]
        later = within[within >= first_row]
        values[later] *= factor
        return values[:, None]


def spiky(
    *,
    look_back: int = SpikyOptions.look_back,
    horizon: int = SpikyOptions.horizon,
    points: int = SpikyOptions.points,
    bursts: int = SpikyOptions.bursts,
    burst_points: int = SpikyOptions.burst_points,
    amplitude: float = SpikyOptions.amplitude,
    noise: float = SpikyOptions.noise,
    normalize: Literal["standard", "none"] = SpikyOptions.normalize,
    shifts: Sequence[float] = SpikyOptions.shifts,
    test_fraction: float = SpikyOptions.test_fraction,
    validation_fraction: float = SpikyOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """Generate the series and cut it into windows; keys as in ``configs/dataset/spiky.yaml``.

    Where the bursts are is random, as is the noise; both follow the seed. The test part of shift f
    has bursts f times as high, in its windows and its targets.

    Args:
        look_back: points in a window.
        horizon: points forecast.
        points: points on [0, 100].
        bursts: number of bursts.
        burst_points: points in a burst.
        amplitude: of each of a burst's four sines.
        noise: standard deviation of the noise elsewhere.
        normalize: ``standard`` brings inputs and targets to mean 0 and deviation 1 over the
            training part; ``none`` is as published.
        shifts: factors f of the bursts' height to evaluate at.
        test_fraction: share of the points, the last ones, to test on.
        validation_fraction: share of the points before those, the last ones, held out.
        seed: fixes every number.
        cache_dir: taken for uniformity; nothing is downloaded.

    Raises:
        ConfigError: the bursts do not fit, or a part has no window.
    """
    values = {
        "look_back": look_back,
        "horizon": horizon,
        "points": points,
        "bursts": bursts,
        "burst_points": burst_points,
        "amplitude": amplitude,
        "noise": noise,
        "normalize": normalize,
        "shifts": shifts,
        "test_fraction": test_fraction,
        "validation_fraction": validation_fraction,
    }
    check_options(SpikyOptions, values, section="dataset")
    generator = _Generator(points, 100.0, bursts, burst_points, amplitude, noise, seed)
    split = SeriesSplit(
        Windows(look_back, horizon, stride=1),
        Parts.by_fractions(
            points, test_fraction=test_fraction, validation_fraction=validation_fraction
        ),
    )
    x = np.linspace(0.0, generator.extent, points)
    dataset, rows = make_dataset(
        "spiky",
        generator.series(),
        split,
        Forecast("y", 0, horizon),
        normalize=normalize,
        source=f"dataset.points={points}",
    )

    def shifted(shift: float) -> Split:
        series = generator.series(shift, first_row=split.parts.test)
        return split.windows.cut(series, rows["test"], dataset.task.target_scaling)

    return replace(
        dataset,
        shifts=Shifts(tuple(shifts), shifted, 1.0, "height f of the bursts, in training heights"),
        times=TimeAxis(x[rows["test"]], "x"),
    )
