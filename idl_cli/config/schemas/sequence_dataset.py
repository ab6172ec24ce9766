"""Sequences and series: tasks of extrapolation, generated series, a user's own table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    FRACTION,
    NON_NEGATIVE,
    POSITIVE,
    SOURCE,
    Existing,
    Range,
)

Count: TypeAlias = Annotated[int, AT_LEAST_ONE]
Bounds: TypeAlias = tuple[float, float]
Shift: TypeAlias = Annotated[float, POSITIVE]
_PROPER = Range(0, 1, low_open=True, high_open=True)
_SHIFTS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def _range_problems(key: str, bounds: Bounds | None) -> Iterator[str]:
    if bounds is not None and not bounds[0] < bounds[1]:
        low, high = bounds
        yield f"dataset.{key}=[{low:g}, {high:g}]: the first must be the smaller"


@dataclass(frozen=True)
class Argmax:
    """Where the largest number of a sequence is; tested on ever wider ranges."""

    name: Literal["argmax"] = "argmax"
    length: Annotated[int, Range(2)] = 10
    train_range: Bounds = (-1.0, 1.0)
    test_range: Bounds | None = None
    shifts: tuple[Shift, ...] = _SHIFTS
    train_samples: Count = 10_000
    test_samples: Count = 10_000
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """A range goes from its smaller to its larger end."""
        yield from _range_problems("train_range", self.train_range)
        yield from _range_problems("test_range", self.test_range)


@dataclass(frozen=True)
class Identity:
    """The numbers of a sequence themselves; tested on ever wider ranges."""

    name: Literal["identity"] = "identity"
    length: Count = 10
    train_range: Bounds = (-1.0, 1.0)
    test_range: Bounds | None = None
    shifts: tuple[Shift, ...] = _SHIFTS
    train_samples: Count = 10_000
    test_samples: Count = 10_000
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """A range goes from its smaller to its larger end."""
        yield from _range_problems("train_range", self.train_range)
        yield from _range_problems("test_range", self.test_range)


@dataclass(frozen=True)
class RollingMean:
    """The mean of the last numbers of a sequence; tested on ever wider ranges."""

    name: Literal["rolling_mean"] = "rolling_mean"
    length: Count = 10
    window: Count = 5
    train_range: Bounds = (-1.0, 1.0)
    test_range: Bounds | None = None
    shifts: tuple[Shift, ...] = _SHIFTS
    train_samples: Count = 10_000
    test_samples: Count = 10_000
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """The window lies within the sequence; a range goes from its smaller to its larger end."""
        if self.window > self.length:
            yield (
                f"dataset.window={self.window}: at most dataset.length={self.length} numbers can"
                " be averaged"
            )
        yield from _range_problems("train_range", self.train_range)
        yield from _range_problems("test_range", self.test_range)


@dataclass(frozen=True)
class Arithmetic:
    """Sum, difference or product of two sums of numbers; tested on ever wider ranges."""

    name: Literal["arithmetic"] = "arithmetic"
    operation: Literal["add", "subtract", "multiply"] = "add"
    length: Annotated[int, Range(2)] = 10
    train_range: Bounds = (-1.0, 1.0)
    test_range: Bounds | None = None
    shifts: tuple[Shift, ...] = _SHIFTS
    train_samples: Count = 10_000
    test_samples: Count = 10_000
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """A range goes from its smaller to its larger end."""
        yield from _range_problems("train_range", self.train_range)
        yield from _range_problems("test_range", self.test_range)


@dataclass(frozen=True)
class Spiky:
    """A generated series with sudden bursts; forecast of its next point."""

    name: Literal["spiky"] = "spiky"
    look_back: Count = 60
    horizon: Count = 1
    points: Count = 10_000
    bursts: Annotated[int, NON_NEGATIVE] = 27
    burst_points: Count = 107
    amplitude: Annotated[float, NON_NEGATIVE] = 3.5
    noise: Annotated[float, NON_NEGATIVE] = 0.35
    normalize: Literal["standard", "none"] = "none"
    shifts: tuple[Shift, ...] = _SHIFTS
    test_fraction: Annotated[float, _PROPER] = 0.4
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """The bursts fit into the series without overlap."""
        if self.bursts * self.burst_points > self.points:
            yield (
                f"dataset.bursts={self.bursts} of dataset.burst_points={self.burst_points} points"
                f" do not fit into dataset.points={self.points} without overlap"
            )


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Your own series: a table with a header; forecast of the next values of one column."""

    name: Literal["csv"] = "csv"
    file: Annotated[str, Existing("file")] = field(metadata=SOURCE)
    target: str
    columns: tuple[str, ...] = ()
    dates: str | None = "auto"
    date_format: str | None = None
    look_back: Count | None = None
    horizon: Count = 1
    stride: Count = 1
    missing: Literal["auto", "error", "drop", "forward_fill", "interpolate"] = "auto"
    normalize: Literal["standard", "none"] = "standard"
    difference: Literal["auto", "always", "never"] = "auto"
    delimiter: Literal["auto", "comma", "semicolon", "tab"] = "auto"
    decimal: Literal["point", "comma"] = "point"
    thousands: Literal["comma", "point", "space", "apostrophe"] | None = None
    test_fraction: Annotated[float, Range(0, 1, low_open=True)] = 0.2
    validation_fraction: Annotated[float, FRACTION] = 0.1

    def problems(self) -> Iterator[str]:
        """A column is chosen once, and is a date or a number, not both."""
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if self.target in self.columns:
            yield (
                f"dataset.columns: {self.target} is dataset.target, whose past is an input anyway;"
                " leave it out"
            )
        if twice:
            yield f"dataset.columns: {', '.join(twice)} chosen twice"
        if self.dates in (self.target, *self.columns):
            yield f"dataset.dates={self.dates}: the same column is chosen as a number too"
