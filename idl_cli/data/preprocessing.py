"""Normalisation: computed once on the training part, then the same wherever a model is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from idl_cli.data.moments import mean_and_deviation
from idl_cli.errors import DataError, ShapeError
from idl_cli.json_value import JSONValue

Normalization = Literal["channel", "feature", "none"]


@dataclass(frozen=True)
class Preprocessing:
    """The map u = (raw / divisor - mean) / std from stored samples to a model's inputs.

    Means and standard deviations are Python floats (float64): written as JSON and read back they
    are the same bits, so a model is fed the same numbers in training and years later.

    Args:
        normalize: ``channel`` (one mean and deviation for each channel of an image), ``feature``
            (one for each entry of a sample) or ``none`` (only the division).
        input_shape: shape of one sample.
        divisor: brings stored values to their natural unit first, 255 for 8-bit pixels, which
            become [0, 1]; ``mean`` and ``std`` are in that unit.
        statistics_shape: shape of the statistics, which broadcasts against ``input_shape``.
        mean: row-major entries of the mean; empty with ``none``.
        std: row-major entries of the standard deviation, all positive; empty with ``none``.
    """

    normalize: Normalization
    input_shape: tuple[int, ...]
    divisor: float = 1.0
    statistics_shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, inputs: Tensor, normalize: Normalization, *, divisor: float = 1.0
    ) -> Preprocessing:
        """Compute the statistics of a training part: see ``mean_and_deviation``.

        An entry that never varies, or by rounding alone, gets std = 1: it becomes 0 in training and
        keeps its unit where it does vary later.

        Args:
            inputs: raw training samples (m, *input_shape), any real dtype.
            normalize: which statistics; the channel of an image is its first axis, or its last
                where only that one has a channel's size (1, 3 or 4); (height, width) has one.
            divisor: see the class.

        Raises:
            DataError: the part has no samples, or spreads beyond the range of float64.
        """
        input_shape = tuple(inputs.shape[1:])
        if normalize == "none":
            return cls(normalize, input_shape, divisor)
        if len(inputs) == 0:
            raise DataError("the training part has no samples to compute a normalisation from")
        shape = _statistics_shape(input_shape, normalize)
        mean, std = mean_and_deviation(inputs, shape, divisor=divisor)
        if not bool((mean.isfinite() & std.isfinite()).all()):
            raise DataError(
                "the training inputs are not finite, or differ by more than float64 can hold"
                " (1.8e308): they cannot be normalised; choose a larger unit"
            )
        return cls(
            normalize,
            input_shape,
            divisor,
            shape,
            tuple(mean.flatten().tolist()),
            tuple(std.flatten().tolist()),
        )

    def __call__(
        self,
        inputs: Tensor,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Apply the map to raw samples.

        Args:
            inputs: raw samples (m, *input_shape), any real dtype.
            device: where to compute and return; that of ``inputs`` by default.
            dtype: floating dtype of the result; torch's default dtype by default.

        Returns:
            Tensor (m, *input_shape).

        Raises:
            ShapeError: the samples do not have the shape this was fitted on.
        """
        return self.on(inputs.device if device is None else device, dtype)(inputs)

    def on(
        self, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Return the map with its statistics already on a device: the form for many batches."""
        dtype = torch.get_default_dtype() if dtype is None else dtype
        shape, divisor, normalized = self.input_shape, self.divisor, self.normalize != "none"
        exact_mean, exact_std = (
            torch.tensor(entries, dtype=torch.float64)
            .reshape(self.statistics_shape if normalized else (0,))
            .to(device=device)
            for entries in (self.mean, self.std)
        )
        mean, std = exact_mean.to(dtype), exact_std.to(dtype)

        def apply(inputs: Tensor) -> Tensor:
            if tuple(inputs.shape[1:]) != shape:
                raise ShapeError(
                    f"samples have shape {tuple(inputs.shape[1:])}, but the preprocessing was"
                    f" fitted on samples of shape {shape}"
                )
            values = inputs.to(device=device, non_blocking=True)
            if normalized and values.dtype == torch.float64:
                # Rounding first would cost the digits of samples whose mean is large.
                return ((values / divisor - exact_mean) / exact_std).to(dtype)
            values = values.to(dtype)
            if divisor != 1.0:
                values = values / divisor
            return (values - mean) / std if normalized else values

        return apply

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the map as plain JSON values; ``from_dict`` gives back exactly this one."""
        return {
            "normalize": self.normalize,
            "input_shape": list(self.input_shape),
            "divisor": self.divisor,
            "statistics_shape": list(self.statistics_shape),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Preprocessing:
        """Remake a map from what ``to_dict`` returned, possibly through a JSON file.

        Raises:
            DataError: the values do not describe a preprocessing.
        """
        try:
            made = cls(
                normalize=_normalization(values["normalize"]),
                input_shape=tuple(int(size) for size in _numbers(values["input_shape"])),
                divisor=_numbers([values["divisor"]])[0],
                statistics_shape=tuple(int(size) for size in _numbers(values["statistics_shape"])),
                mean=_numbers(values["mean"]),
                std=_numbers(values["std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a preprocessing: {error!r}; it was not written by idl") from error
        entries = 0 if made.normalize == "none" else prod(made.statistics_shape)
        if len(made.mean) != entries or len(made.std) != entries:
            raise DataError(
                f"not a preprocessing: {len(made.mean)} means and {len(made.std)} deviations"
                f" for statistics of shape {made.statistics_shape}"
            )
        finite = all(map(math.isfinite, (made.divisor, *made.mean, *made.std)))
        if not finite or min((made.divisor, *made.std)) <= 0:
            raise DataError(
                "not a preprocessing: a mean or deviation is not finite, or a deviation or the"
                " divisor not positive"
            )
        return made


def _statistics_shape(input_shape: tuple[int, ...], normalize: Normalization) -> tuple[int, ...]:
    if normalize == "feature":
        return input_shape
    if len(input_shape) < 3:
        return (1,) * len(input_shape)
    last = input_shape[-1] in (1, 3, 4) and input_shape[0] not in (1, 3, 4)
    channel_axis = len(input_shape) - 1 if last else 0
    return tuple(size if axis == channel_axis else 1 for axis, size in enumerate(input_shape))


def _normalization(value: object) -> Normalization:
    if value == "channel":
        return "channel"
    if value == "feature":
        return "feature"
    if value == "none":
        return "none"
    raise ValueError(f"normalize is {value!r}; allowed: channel, feature, none")


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"a list of numbers is needed, not {values!r}")
    return tuple(float(value) for value in values)
