"""Options of the data sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    FRACTION,
    NON_NEGATIVE,
    PLACE,
    POSITIVE,
    PROPER_FRACTION,
    SOURCE,
    Existing,
    Pattern,
    Range,
)

Normalize: TypeAlias = Literal["channel", "feature", "none"]
Root: TypeAlias = Annotated[str, Existing("directory")] | None
Count: TypeAlias = Annotated[int, AT_LEAST_ONE]
Share: TypeAlias = Annotated[float, FRACTION]
TestShare: TypeAlias = Annotated[float, Range(0, 1, low_open=True)]
Bounds: TypeAlias = tuple[float, float]

_ADDRESS = Pattern(r"https?://\S+", "an address, https://HOST/DIRECTORY")
_LONGEST = 1_000_000  # numbers of a sequence


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What all data sets of images can be asked for."""

    normalize: Normalize = "channel"
    train_samples: Count | None = None
    test_samples: Count | None = None
    validation_fraction: Share = 0.1


@dataclass(frozen=True, kw_only=True)
class DigitsOptions(ImageOptions):
    """1,797 scanned digits of 8 x 8 pixels that come with scikit-learn; no download."""


@dataclass(frozen=True, kw_only=True)
class PublishedOptions(ImageOptions):
    """Files that are fetched, or lie in a directory."""

    root: Root = field(default=None, metadata=PLACE)
    mirror: Annotated[str, _ADDRESS] | None = field(default=None, metadata=PLACE)
    augment: bool = False
    shift: Annotated[int, NON_NEGATIVE] | None = None
    cutout: Annotated[int, NON_NEGATIVE] = 0

    def problems(self) -> Iterator[str]:
        """A shift is part of what ``augment`` does."""
        if self.shift is not None and not self.augment:
            yield f"shift={self.shift}: says how far augment=true shifts; choose it, or shift=null"


@dataclass(frozen=True, kw_only=True)
class MnistOptions(PublishedOptions):
    """70,000 handwritten digits of 28 x 28 pixels."""


@dataclass(frozen=True, kw_only=True)
class FashionMnistOptions(PublishedOptions):
    """70,000 grey photographs of clothes in 10 classes, 28 x 28 pixels."""


@dataclass(frozen=True, kw_only=True)
class Cifar10Options(PublishedOptions):
    """60,000 colour photographs in 10 classes, 32 x 32 pixels."""

    augment: bool = True


@dataclass(frozen=True, kw_only=True)
class Cifar100Options(PublishedOptions):
    """60,000 colour photographs in 100 classes (or 20 coarse ones), 32 x 32 pixels."""

    labels: Literal["fine", "coarse"] = "fine"
    augment: bool = True


@dataclass(frozen=True, kw_only=True)
class ArraysOptions:
    """Your own data: a .npz or .npy file, or a folder of images by class."""

    file: Annotated[str, Existing("file or directory")] = field(metadata=SOURCE)
    target: Annotated[str, Existing("file")] | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    normalize: Literal["auto", "channel", "feature", "none"] = "auto"
    channels: Literal["auto", "first", "last"] = "auto"
    test_fraction: TestShare = 0.2
    train_samples: Count | None = None
    test_samples: Count | None = None
    validation_fraction: Share = 0.1


# -- sequences and series ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExtrapolationOptions:
    """Numbers of a range, and ever wider ranges to test on."""

    length: Annotated[int, Range(1, _LONGEST)] = 10
    train_range: Bounds = (-1.0, 1.0)
    test_range: Bounds | None = None
    shifts: tuple[Annotated[float, POSITIVE], ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    train_samples: Count = 10_000
    test_samples: Count = 10_000
    validation_fraction: Share = 0.1

    def problems(self) -> Iterator[str]:
        """A range goes from its smaller to its larger end."""
        for key, bounds in (("train_range", self.train_range), ("test_range", self.test_range)):
            if bounds is not None and not bounds[0] < bounds[1]:
                low, high = bounds
                yield f"{key}=[{low:g}, {high:g}]: the first must be the smaller"


@dataclass(frozen=True, kw_only=True)
class ArgmaxOptions(ExtrapolationOptions):
    """Where the largest number of a sequence is; tested on ever wider ranges."""

    length: Annotated[int, Range(2, _LONGEST)] = 10


@dataclass(frozen=True, kw_only=True)
class IdentityOptions(ExtrapolationOptions):
    """The numbers of a sequence themselves; tested on ever wider ranges."""


@dataclass(frozen=True, kw_only=True)
class RollingMeanOptions(ExtrapolationOptions):
    """The mean of the last numbers of a sequence; tested on ever wider ranges."""

    window: Count = 5

    def problems(self) -> Iterator[str]:
        """The window lies within the sequence, too."""
        if self.window > self.length:
            yield (
                f"window={self.window}: at most dataset.length={self.length} numbers can"
                " be averaged"
            )
        yield from super().problems()


@dataclass(frozen=True, kw_only=True)
class ArithmeticOptions(ExtrapolationOptions):
    """Sum, difference or product of two sums of numbers; tested on ever wider ranges."""

    operation: Literal["add", "subtract", "multiply"] = "add"
    length: Annotated[int, Range(2, _LONGEST)] = 10


@dataclass(frozen=True, kw_only=True)
class SpikyOptions:
    """A generated series with sudden bursts; forecast of its next point."""

    look_back: Count = 60
    horizon: Count = 1
    points: Count = 10_000
    bursts: Annotated[int, NON_NEGATIVE] = 27
    burst_points: Count = 107
    amplitude: Annotated[float, NON_NEGATIVE] = 3.5
    noise: Annotated[float, NON_NEGATIVE] = 0.35
    normalize: Literal["standard", "none"] = "none"
    shifts: tuple[Annotated[float, POSITIVE], ...] = ExtrapolationOptions.shifts
    test_fraction: Annotated[float, PROPER_FRACTION] = 0.4
    validation_fraction: Share = 0.1

    def problems(self) -> Iterator[str]:
        """The bursts fit into the series without overlap."""
        if self.bursts * self.burst_points > self.points:
            yield (
                f"bursts={self.bursts} of dataset.burst_points={self.burst_points} points"
                f" do not fit into dataset.points={self.points} without overlap"
            )


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """Your own series: a table with a header; forecast of the next values of one column."""

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
    test_fraction: TestShare = 0.2
    validation_fraction: Share = 0.1

    def problems(self) -> Iterator[str]:
        """A column is chosen once, and is a date or a number, not both."""
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if self.target in self.columns:
            yield (
                f"columns: {self.target} is dataset.target, whose past is an input anyway;"
                " leave it out"
            )
        if twice:
            yield f"columns: {', '.join(twice)} chosen twice"
        if self.dates in (self.target, *self.columns):
            yield f"dates={self.dates}: the same column is chosen as a number too"
