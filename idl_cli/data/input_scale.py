"""Whether two data sets hold the same pixels in the same unit: bytes 0 … 255, or numbers 0 … 1."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Final

from torch import Tensor

from idl_cli.data.dataset import Dataset
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.errors import ConfigError

_FAR: Final = 10.0  # training deviations from the training mean, root mean square
_NARROW: Final = 0.05  # training deviations that the inputs spread
_ENOUGH: Final = 30  # samples to judge a spread by
_LOOKED_AT: Final = 2048


def preprocessing_for(dataset: Dataset, preprocessing: Preprocessing) -> Preprocessing:
    """Return a model's preprocessing for samples that may be stored in another unit.

    Where it is certain that 8-bit images and images in [0, 1] meet, they are converted; what
    cannot be told is refused.

    Args:
        dataset: the samples to be measured on; its own preprocessing tells how they are stored.
        preprocessing: of the model.

    Raises:
        ConfigError: the samples are stored in another unit than those the model was trained on.
    """
    stored = dataset.preprocessing.divisor
    return in_unit_of(preprocessing, dataset.test.inputs, stored, f"dataset={dataset.name}")


def in_unit_of(
    preprocessing: Preprocessing, inputs: Tensor, stored: float, source: str
) -> Preprocessing:
    """Return a model's preprocessing for samples as they are stored; see ``preprocessing_for``.

    Args:
        preprocessing: of the model.
        inputs: raw samples, one at least.
        stored: the divisor that their type asks for, 255 for 8-bit pixels.
        source: the samples' name in a message.
    """
    trained = preprocessing.divisor
    if stored == trained:
        return preprocessing
    low, high = float(inputs.min()), float(inputs.max())
    whole = stored == 255.0 or bool((inputs == inputs.round()).all())
    if trained not in (1.0, 255.0) and whole and low >= 0 and 1 < high <= trained:
        return preprocessing  # counts up to another number, as those of the digits up to 16
    if trained == 255.0 and stored == 1.0:
        if low >= 0 and high <= 1 and not whole:
            return replace(preprocessing, divisor=1.0)
        if low >= 0 and 1 < high <= 255 and whole:
            return preprocessing
        raise _other_unit(source, "8-bit numbers 0 to 255", f"numbers from {low:g} to {high:g}")
    means, deviations = preprocessing.mean, preprocessing.std
    if trained == 1.0 and stored == 255.0 and means:
        unit = min(means) >= 0 and max(means) <= 1 and all(d <= 0.5 or d == 1 for d in deviations)
        if unit and high > 1 and len(preprocessing.input_shape) > 1:
            return replace(preprocessing, divisor=255.0)
        if min(means) >= 0 and 1 < max(means) <= 255:
            return preprocessing
    raise _other_unit(
        source, "numbers that are no 8-bit pixels", f"8-bit numbers from {low:g} to {high:g}"
    )


def warn_of_other_unit(dataset: Dataset) -> None:
    """Warn where a model's inputs are so far from its training that another unit is likely."""
    samples = dataset.test.inputs[:_LOOKED_AT]
    said = unit_doubt(dataset.preprocessing, samples)
    if said is not None:
        warnings.warn(f"dataset={dataset.name}: {said}", stacklevel=2)


def unit_doubt(preprocessing: Preprocessing, samples: Tensor) -> str | None:
    """Why samples may be in another unit than the model was trained in; None where nothing is odd.

    Args:
        preprocessing: of the model.
        samples: raw ones.
    """
    if preprocessing.normalize == "none" or not samples.numel():
        return None
    u = preprocessing(samples).double()
    far = _root_mean_square(u)
    spread = _root_mean_square(u - u.mean(dim=0))
    if far > _FAR:
        said = f"lie {far:.3g} training deviations from the training mean"
    elif len(u) >= _ENOUGH and spread < _NARROW:
        said = f"spread {spread:.2g} training deviations"
    else:
        return None
    return f"the inputs {said}, on average; are they in the unit that the model was trained in?"


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _other_unit(source: str, trained: str, stored: str) -> ConfigError:
    return ConfigError(
        [
            f"{source}: holds {stored}, the model was trained on {trained}; store the"
            " samples in the unit and type of those it was trained on"
        ]
    )
