"""Offsets of features and targets, taken out before squares are summed.

A feature near 1e6 that varies by 1 has a sum of squares of which twelve digits are its offset. With
a constant input s_c there, s_j − μ_j s_c says the same: only the weight of the constant becomes
another one. Any μ will do, so the first batch's means serve for all batches and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_WORTH = 30.0
"""Mean over deviation from which three of G's sixteen digits are an offset's; below, none is
taken out, and sums are those of the features as they are."""
_LEAST_DEVIATION = 1e-13
"""Beside the mean: what varies less is constant to rounding, and its own mean leaves nothing."""


@dataclass(frozen=True, eq=False)
class Offsets:
    """What is taken out.

    Attributes:
        constant: c, the index of the constant feature, an input.
        features: μ (D,) float64 in units of s_c, zero at c.
        targets: name -> ν (rows,) float64 in units of s_c.
    """

    constant: int
    features: Tensor
    targets: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, features: Tensor, first_input: int, targets: Mapping[str, Tensor]
    ) -> Offsets | None:
        """The offsets that a batch shows; None where no input is constant, or none is worth it.

        Args:
            features: S (b, D) float64.
            first_input: how many of them are states.
            targets: name -> (b, rows).
        """
        if len(features) < 2:
            return None
        inputs = features[:, first_input:]
        same = (inputs == inputs[0]).all(dim=0) & (inputs[0] != 0)
        if not bool(same.any()):
            return None
        # The largest has the cheapest weight: an optimum uses no other.
        constant = first_input + int((inputs[0].abs() * same).argmax())
        unit = features[0, constant]
        centres = _worth(features) / unit
        centres[constant] = 0.0
        of_targets = {name: _worth(target.to(features)) / unit for name, target in targets.items()}
        if not any(bool((each != 0).any()) for each in (centres, *of_targets.values())):
            return None
        return cls(constant, centres, of_targets)

    def take_out_(self, features: Tensor, constant: Tensor) -> Tensor:
        """Take μ s_c out of features (b, D), in place; s_c (b,)."""
        return features.addr_(constant, self.features, alpha=-1.0)

    def to(self, like: Tensor) -> Offsets:
        """On the device of ``like``."""
        targets = {name: target.to(like) for name, target in self.targets.items()}
        return Offsets(self.constant, self.features.to(like), targets)

    def check(self, features: int, targets: Mapping[str, int]) -> None:
        """Raise ValueError where the parts are not of so many features and rows, all finite."""
        parts = {"features": (self.features, features)}
        parts |= {name: (self.targets[name], rows) for name, rows in targets.items()}
        for name, (part, size) in parts.items():
            if part.shape != (size,) or not bool(part.isfinite().all()):
                raise ValueError(f"offsets of {name} are not {size} finite numbers")
        if not 0 <= self.constant < features or float(self.features[self.constant]) != 0:
            raise ValueError(f"the constant feature cannot be {self.constant}")

    def scaled(self, features: Tensor, rows: Mapping[str, Tensor]) -> Offsets:
        """Those of features (D,) and some targets (rows,) times given factors; that of s_c is 1."""
        targets = {name: rows.get(name, 1.0) * target for name, target in self.targets.items()}
        return Offsets(self.constant, features * self.features, targets)


def _worth(values: Tensor) -> Tensor:
    """The means (columns,) that are worth taking out, zero for the rest."""
    deviation, mean = torch.std_mean(values, dim=0, correction=0)
    size = mean.abs()
    wanted = (size > _WORTH * deviation) & (deviation > _LEAST_DEVIATION * size)
    return torch.where(wanted, mean, 0.0)


def moved(
    gram: Tensor,
    cross: Mapping[str, Tensor],
    square: Mapping[str, Tensor],
    before: Offsets,
    after: Offsets,
    *,
    column: Tensor | None = None,
    columns: slice = slice(None),
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The sums with other offsets of the same constant taken out, e.g. none.

    Args:
        gram: (D, D), or this process's columns of it (D, w).
        cross: name -> (rows, D).
        square: name -> (rows,).
        before: what has been taken out of them.
        after: what is to be.
        column: gram's column of the constant (D,); None where gram is whole.
        columns: which columns of the matrix ``gram`` has.
    """
    c = before.constant
    assert after.constant == c
    column = gram[:, c] if column is None else column
    shift = before.features - after.features
    # s̃ + δ s_c, δ = μ − μ': two rank-one changes and the one of their product.
    half = column + 0.5 * column[c] * shift
    new_gram = gram + torch.outer(shift, half[columns]) + torch.outer(half, shift[columns])
    new_cross, new_square = {}, {}
    for name, old in cross.items():
        lift = before.targets[name] - after.targets[name]
        new_square[name] = square[name] + lift * (2 * old[:, c] + lift * column[c])
        lifted = old + torch.outer(lift, column)
        new_cross[name] = lifted + torch.outer(lifted[:, c], shift)
    return new_gram, new_cross, new_square


def none_like(offsets: Offsets) -> Offsets:
    """No offsets, of the same constant."""
    zeros = {name: torch.zeros_like(target) for name, target in offsets.targets.items()}
    return Offsets(offsets.constant, torch.zeros_like(offsets.features), zeros)
