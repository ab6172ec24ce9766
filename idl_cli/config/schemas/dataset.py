"""Data sets to train and evaluate on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import AT_LEAST_ONE, FRACTION, PLACE, SOURCE, Existing, Range
from idl_cli.config.schemas.sequence_dataset import (
    Argmax,
    Arithmetic,
    Csv,
    Identity,
    RollingMean,
    Spiky,
)

__all__ = [
    "Argmax",
    "Arithmetic",
    "Arrays",
    "Cifar10",
    "Cifar100",
    "Csv",
    "Digits",
    "FashionMnist",
    "Identity",
    "Mnist",
    "RollingMean",
    "Spiky",
]

Normalize: TypeAlias = Literal["channel", "feature", "none"]
Root: TypeAlias = Annotated[str, Existing("directory")] | None
Samples: TypeAlias = Annotated[int, AT_LEAST_ONE] | None


@dataclass(frozen=True)
class Digits:
    """1,797 scanned digits of 8 x 8 pixels that come with scikit-learn; no download."""

    name: Literal["digits"] = "digits"
    normalize: Normalize = "channel"
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1


@dataclass(frozen=True)
class Mnist:
    """70,000 handwritten digits of 28 x 28 pixels."""

    name: Literal["mnist"] = "mnist"
    root: Root = field(default=None, metadata=PLACE)
    mirror: str | None = field(default=None, metadata=PLACE)
    normalize: Normalize = "channel"
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1


@dataclass(frozen=True)
class FashionMnist:
    """70,000 grey photographs of clothes in 10 classes, 28 x 28 pixels."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    root: Root = field(default=None, metadata=PLACE)
    mirror: str | None = field(default=None, metadata=PLACE)
    normalize: Normalize = "channel"
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1


@dataclass(frozen=True)
class Cifar10:
    """60,000 colour photographs in 10 classes, 32 x 32 pixels."""

    name: Literal["cifar10"] = "cifar10"
    root: Root = field(default=None, metadata=PLACE)
    mirror: str | None = field(default=None, metadata=PLACE)
    augment: bool = True
    normalize: Normalize = "channel"
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1


@dataclass(frozen=True)
class Cifar100:
    """60,000 colour photographs in 100 classes (or 20 coarse ones), 32 x 32 pixels."""

    name: Literal["cifar100"] = "cifar100"
    root: Root = field(default=None, metadata=PLACE)
    mirror: str | None = field(default=None, metadata=PLACE)
    labels: Literal["fine", "coarse"] = "fine"
    augment: bool = True
    normalize: Normalize = "channel"
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Your own data: a .npz or .npy file, or a folder of images by class."""

    name: Literal["arrays"] = "arrays"
    file: Annotated[str, Existing("file or directory")] = field(metadata=SOURCE)
    target: Annotated[str, Existing("file")] | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    normalize: Literal["auto", "channel", "feature", "none"] = "auto"
    channels: Literal["auto", "first", "last"] = "auto"
    test_fraction: Annotated[float, Range(0, 1, low_open=True)] = 0.2
    train_samples: Samples = None
    test_samples: Samples = None
    validation_fraction: Annotated[float, FRACTION] = 0.1
