"""Real targets in units of their own spread, and exactly back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from idl_cli.data.moments import finite, mean_and_deviation
from idl_cli.errors import DataError

if TYPE_CHECKING:
    from idl_cli.json_value import JSONValue


_MEASURABLE: Final = 1e140
"""Sizes up to which squared errors, of a billion samples, neither overflow nor vanish."""


@dataclass(frozen=True)
class TargetScaling:
    """The map s = (y - mean) / std from targets in their own unit to those a model is trained on.

    Means and deviations are Python floats: written as JSON and read back they are the same bits.

    Args:
        mean: one number an output, in the target's unit.
        std: one positive number an output, in the target's unit.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, targets: Tensor) -> TargetScaling:
        """Standardise the targets (m, q) of a training part, m ≥ 1.

        An output whose targets do not vary, or by rounding alone, keeps its unit.

        Raises:
            DataError: as ``measurable``.
        """
        mean, std = mean_and_deviation(targets)
        return cls(tuple(mean.tolist()), tuple(std.tolist())).measurable()

    def measurable(self, source: str = "") -> TargetScaling:
        """Return this map, where float64 has room for squared errors of such targets.

        Args:
            source: file or key that a message names.

        Raises:
            DataError: the targets, or their spread, are too large or too small.
        """
        for mean, std in zip(self.mean, self.std, strict=True):
            if not (abs(mean) <= _MEASURABLE and 1 / _MEASURABLE <= std <= _MEASURABLE):
                raise DataError(
                    f"{source}{source and ': '}the training targets are of the order of {mean:.0e},"
                    f" with a spread of {std:.0e}: float64, which ends at 1e±308, has no squared"
                    f" errors of sizes beyond {_MEASURABLE:.0e} or {1 / _MEASURABLE:.0e}; choose"
                    " another unit"
                )
        return self

    def __post_init__(self) -> None:
        assert len(self.mean) == len(self.std)
        assert all(entry > 0 for entry in self.std)

    def scale(self, targets: Tensor) -> Tensor:
        """Return scaled targets (m, q), float64."""
        mean, std = self._on(targets)
        return (targets.double() - mean) / std

    def unscale(self, scaled: Tensor) -> Tensor:
        """Return targets or predictions (m, q) in the target's own unit, float64."""
        mean, std = self._on(scaled)
        return scaled.double() * std + mean

    def unscale_difference(self, difference: Tensor) -> Tensor:
        """Return a difference (m, q) of scaled values in the target's own unit, float64.

        Its digits are kept where the mean is large beside the spread, whereas two unscaled values
        would have been rounded before they are subtracted.
        """
        _, std = self._on(difference)
        return difference.double() * std

    def _on(self, values: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(entries, dtype=torch.float64, device=values.device)
            for entries in (self.mean, self.std)
        )
        return mean, std

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the map as plain JSON values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TargetScaling:
        """Remake a map from what ``to_dict`` returned.

        Raises:
            DataError: a number is not finite, or a deviation not positive.
        """
        mean, std = values["mean"], values["std"]
        assert isinstance(mean, list | tuple)
        assert isinstance(std, list | tuple)
        deviations = tuple(map(finite, std))
        if min(deviations, default=1.0) <= 0:
            raise DataError(f"deviations of targets are {deviations}: all must be positive")
        return cls(tuple(map(finite, mean)), deviations)
