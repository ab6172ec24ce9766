"""The inputs that an attack may try: a box around each sample, within the valid range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError

ValidRange = tuple[Tensor | float, Tensor | float]
"""Lowest and highest value an input may take; each broadcasts against one sample."""


@dataclass(frozen=True)
class Ball:
    """The l∞ ball |u − u⁰| ≤ ε, component by component, cut by the valid range.

    Both ends are rounded inward: no point between them is farther from u⁰ than ε by a single bit.
    A sample that is outside the valid range itself, as by rounding, stays in its ball.

    Attributes:
        low: smallest inputs (b, ...).
        high: largest inputs (b, ...).
    """

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, inputs: Tensor, epsilon: Tensor | float, valid: ValidRange | None) -> Ball:
        """Return the ball around each of the inputs.

        Args:
            inputs: u⁰ (b, ...), floating.
            epsilon: ε ≥ 0 in the unit of ``inputs``; broadcasts against them, so that each feature,
                or each sample, may have its own. Of more digits than the inputs it is rounded down.
            valid: the valid range in the unit of ``inputs``; None for any value.

        Raises:
            ArgumentError: ε is negative or no number, or infinite where no range cuts the ball.
        """
        size = torch.as_tensor(epsilon)
        if not bool((size >= 0).all()) or (valid is None and not bool(size.isfinite().all())):
            raise ArgumentError(
                f"epsilon={size.tolist() if size.numel() < 5 else size.min().item()}: must be a"
                " number >= 0, and finite where no valid range is given"
            )
        radius = _rounded(epsilon, inputs, up=False)
        low, high = _below(inputs, radius), -_below(-inputs, radius)
        if valid is not None:
            least, most = (
                _rounded(end, inputs, up=up) for end, up in zip(valid, (True, False), strict=True)
            )
            low = torch.maximum(low, torch.minimum(least, inputs))
            high = torch.minimum(high, torch.maximum(most, inputs))
        return cls(low, high)

    def project(self, inputs: Tensor) -> Tensor:
        """Return the nearest point of the ball (b, ...)."""
        return inputs.clamp(self.low, self.high)

    def uniform(self, generator: torch.Generator | None) -> Tensor:
        """Draw a point of each ball (b, ...)."""
        share = torch.rand(
            self.low.shape, generator=generator, dtype=self.low.dtype, device=self.low.device
        )
        return self.project(self.low + share * (self.high - self.low))

    @property
    def half_width(self) -> Tensor:
        """Half the width of each ball (b, ...), the natural unit of a step."""
        return (self.high - self.low) / 2

    def rows(self, samples: Tensor) -> Ball:
        """Return the balls of some of the samples."""
        return Ball(self.low[samples], self.high[samples])


def _rounded(value: Tensor | float, like: Tensor, *, up: bool) -> Tensor:
    """Return a value in the dtype of ``like``, rounded in one direction."""
    exact = torch.as_tensor(value, dtype=torch.float64, device=like.device)
    near = exact.to(like.dtype)
    wrong = near.double() < exact if up else near.double() > exact
    towards = torch.full_like(near, torch.inf if up else -torch.inf)
    return torch.where(wrong, torch.nextafter(near, towards), near)


def _below(inputs: Tensor, radius: Tensor) -> Tensor:
    """Return u − ε, rounded up to the next number that is at most ε from u."""
    low = inputs - radius
    # Knuth's two-sum: low + error is u − ε exactly.
    moved = low - inputs
    error = (inputs - (low - moved)) + (-radius - moved)
    return torch.where(error > 0, torch.nextafter(low, inputs.expand_as(low)), low)
