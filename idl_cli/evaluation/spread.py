"""How targets spread about their mean, accumulated without losing digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDINGS = 4  # of the largest value: how far equal numbers, computed in two ways, may lie apart

_VANISHING = 1e-290  # below it, the last digits of a sum of squares are lost to the end of float64


@dataclass(frozen=True)
class Spread:
    """Spread of real targets, output by output.

    Σy² - (Σy)²/m would lose all digits where the mean is large beside the spread.

    Args:
        samples: number of samples m.
        mean: mean of the targets (q,), float64, like all that follow.
        deviations: Σ(y - mean y)² (q,).
        smallest: smallest target (q,).
        largest: largest target (q,); equal to the smallest exactly where the targets are all
            equal, whereas rounding of the mean can leave their deviations above zero.
    """

    samples: int
    mean: Tensor
    deviations: Tensor
    smallest: Tensor
    largest: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Spread:
        """Return the spread of a batch of targets (b, q)."""
        y = targets.double()
        mean = y.mean(dim=0)
        deviations = (y - mean).square().sum(dim=0)
        return cls(len(y), mean, deviations, y.amin(dim=0), y.amax(dim=0))

    @property
    def constant(self) -> Tensor:
        """Whether the targets are all equal, or differ by rounding alone: (q,), bool."""
        return (self.smallest == self.largest) | (self.deviations <= self.rounding)

    @property
    def rounding(self) -> Tensor:
        """The sum of squares (q,) that rounding of the targets alone can make."""
        largest = torch.maximum(self.smallest.abs(), self.largest.abs())
        return self.samples * (_ROUNDINGS * torch.finfo(torch.float64).eps * largest).square()

    @property
    def beyond_range(self) -> Tensor:
        """Whether float64 cannot tell the deviations: they overflow, or vanish (q,), bool."""
        overflown = ~(self.deviations + self.rounding).isfinite()
        return overflown | ((self.deviations < _VANISHING) & (self.smallest != self.largest))

    def merged(self, other: Spread) -> Spread:
        """Join two sets of samples; the result is on the device of ``other``.

        T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", The American
        Statistician 37(3), 1983, equation (1.5).
        """
        device = other.mean.device
        samples = self.samples + other.samples
        own_mean = self.mean.to(device)
        shift = other.mean - own_mean
        between = shift.square() * (self.samples * other.samples / samples)
        return Spread(
            samples,
            own_mean + shift * (other.samples / samples),
            self.deviations.to(device) + other.deviations + between,
            torch.minimum(self.smallest.to(device), other.smallest),
            torch.maximum(self.largest.to(device), other.largest),
        )

    def state_dict(self) -> dict[str, int | Tensor]:
        """Return the fields by name."""
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, object]) -> Spread:
        """Remake a spread from what ``state_dict`` returned."""
        samples = state["samples"]
        assert isinstance(samples, int)
        tensors = [state[name] for name in ("mean", "deviations", "smallest", "largest")]
        assert all(isinstance(tensor, Tensor) for tensor in tensors)
        mean, deviations, smallest, largest = (
            tensor for tensor in tensors if isinstance(tensor, Tensor)
        )
        return cls(samples, mean, deviations, smallest, largest)
