"""A series with sudden bursts, generated: forecasts of it must follow jumps, not trends.

Set-up of the time series in "The Extrapolation Power of Implicit Models", IJCAI 2024 (arXiv
2407.14430), as its authors' code generates it: 10,000 points x on [0, 100], of which 27 bursts of
107 points are 3.5·Σ sin(f x) with f in {2, 23, 78, 100}, all others sin x + N(0, 0.35²).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idl_cli.config.arguments import keywords_of
from idl_cli.data.dataset import Dataset, TimeAxis
from idl_cli.data.options import SpikyOptions
from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.split_in_time import SeriesSplit, make_dataset
from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series, Split
from idl_cli.data.synthetic.distributions import normal
from idl_cli.data.synthetic.shifts import Shifts

EXTENT = 100.0
FREQUENCIES = (2.0, 23.0, 78.0, 100.0)


@dataclass(frozen=True)
class _Generator:
    options: SpikyOptions
    seed: int

    @property
    def x(self) -> Series:
        """Where the points lie (points,)."""
        return np.linspace(0.0, EXTENT, self.options.points)

    def starts(self) -> npt.NDArray[np.int64]:
        """First points of the bursts: every arrangement without overlap is equally likely."""
        bursts, beyond_the_first = self.options.bursts, self.options.burst_points - 1
        free = self.options.points - bursts * beyond_the_first
        chosen = random_permutation(free, Purpose.BURSTS, self.seed)[:bursts]
        return np.sort(chosen) + np.arange(bursts) * beyond_the_first

    def series(self, factor: float = 1.0, first_row: int = 0) -> Series:
        """The series (points, 1); bursts from ``first_row`` on are ``factor`` times as high."""
        options = self.options
        values = np.sin(self.x) + normal(options.points, options.noise, Purpose.NOISE, self.seed)
        waves = np.sin(np.multiply.outer(self.x, np.array(FREQUENCIES))).sum(axis=1)
        within = (self.starts()[:, None] + np.arange(options.burst_points)).ravel()
        values[within] = options.amplitude * waves[within]
        later = within[within >= first_row]
        values[later] *= factor
        return values[:, None]


@keywords_of(SpikyOptions, section="dataset")
def spiky(options: SpikyOptions, *, seed: int = 0, cache_dir: Path | str | None = None) -> Dataset:
    """Generate the series and cut it into windows; keys as in ``configs/dataset/spiky.yaml``.

    Where the bursts are is random, as is the noise; both follow the seed. The test part of shift f
    has bursts f times as high, in its windows and its targets.

    Args:
        options: the keys, each a keyword argument of its own.
        seed: fixes every number.
        cache_dir: taken for uniformity; nothing is downloaded.

    Raises:
        ConfigError: a key is out of range, the bursts do not fit, or a part has no window.
    """
    generator = _Generator(options, seed)
    split = SeriesSplit(
        Windows(options.look_back, options.horizon, stride=1),
        Parts.by_fractions(
            options.points,
            test_fraction=options.test_fraction,
            validation_fraction=options.validation_fraction,
        ),
    )
    dataset, rows = make_dataset(
        "spiky",
        generator.series(),
        split,
        Forecast("y", 0, options.horizon),
        normalize=options.normalize,
        source=f"dataset.points={options.points}",
    )

    def shifted(shift: float) -> Split:
        series = generator.series(shift, first_row=split.parts.test)
        return split.windows.cut(series, rows["test"], dataset.task.target_scaling)

    return replace(
        dataset,
        shifts=Shifts(options.shifts, shifted, 1.0, "height f of the bursts, in training heights"),
        times=TimeAxis(generator.x[rows["test"]], "x"),
    )
