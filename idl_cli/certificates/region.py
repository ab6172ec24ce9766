"""The inputs within a distance ε of samples, in the data's own unit and within their range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from idl_cli.certificates.rounding import UNIT, above, below, error_of, up
from idl_cli.data.preprocessing import Preprocessing

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class InputUnit:
    """How a model's inputs u = (v − mean) / deviation follow from values v in the data's unit.

    Attributes:
        mean: (p,), float64.
        deviation: (p,), float64, positive.
        valid: smallest and largest value of the data's unit; None where there is no range.
    """

    mean: Tensor
    deviation: Tensor
    valid: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, valid: tuple[float, float] | None = None
    ) -> InputUnit:
        """The unit of the samples that a preprocessing takes, after its division."""
        shape = preprocessing.input_shape
        if preprocessing.normalize == "none":
            mean, deviation = torch.zeros(shape), torch.ones(shape)
        else:
            mean, deviation = (
                torch.tensor(entries, dtype=torch.float64)
                .reshape(preprocessing.statistics_shape)
                .expand(shape)
                for entries in (preprocessing.mean, preprocessing.std)
            )
        return cls(mean.flatten().double(), deviation.flatten().double(), valid)

    def inputs(self, values: Tensor) -> Tensor:
        """U (m, p) of values (m, p), as computed."""
        return (values - self.mean) / self.deviation

    def limits(self, values: Tensor, epsilon: Tensor | float) -> tuple[Tensor, Tensor]:
        """Least and largest values (m, p) in range and within ε of values (m, p) in l∞."""
        low, high = values - epsilon, values + epsilon
        if self.valid is not None:
            smallest, largest = self.valid
            # a sample beyond the range stays in its own region
            low = torch.maximum(low, values.clamp(max=smallest))
            high = torch.minimum(high, values.clamp(min=largest))
        return low, high

    def region(self, values: Tensor, epsilon: Tensor, norm: Norm) -> Region:
        """All inputs within ε of samples.

        Args:
            values: samples (m, p) in the data's unit, float64.
            epsilon: of each sample (m,), >= 0.
            norm: in which ε is measured, in the data's unit.
        """
        reach = epsilon[:, None]
        low, high = self.limits(values, reach)
        size = torch.maximum(low.abs(), high.abs()) + self.mean.abs()
        rounding = size / self.deviation * (8 * UNIT)
        low, high = below(self.inputs(low) - rounding), above(self.inputs(high) + rounding)
        if norm == "linf":
            centre = (low + high) / 2
            return Region(centre, above(torch.maximum(high - centre, centre - low)))
        centre = self.inputs(values)
        return Region(
            centre,
            above(torch.maximum(high - centre, centre - low)),
            ball=above(epsilon),
            scale=above(1 / self.deviation),
            rounding=above(rounding),
        )


@dataclass(frozen=True)
class Region:
    """A box around each sample, and in l2 the ball in it that is meant.

    Attributes:
        centre: u (m, p).
        radius: of the box (m, p), rounded up.
        ball: radius of the ball in the data's unit (m,); None for the whole box.
        scale: inputs a unit of the data (p,), rounded up; with a ball.
        rounding: what the centre may be off by (m, p); with a ball.
    """

    centre: Tensor
    radius: Tensor
    ball: Tensor | None = None
    scale: Tensor | None = None
    rounding: Tensor | None = None

    def __len__(self) -> int:
        return len(self.centre)

    def select(self, samples: Tensor) -> Region:
        """The regions of some samples: indices or a mask (m,)."""
        return replace(
            self,
            centre=self.centre[samples],
            radius=self.radius[samples],
            ball=None if self.ball is None else self.ball[samples],
            rounding=None if self.rounding is None else self.rounding[samples],
        )

    def single(self) -> Region:
        """About the same in float32."""
        others = (self.ball, self.scale, self.rounding)
        ball, scale, rounding = (None if each is None else each.float() for each in others)
        return Region(self.centre.float(), self.radius.float(), ball, scale, rounding)

    def reach(self, rows: Tensor) -> Tensor:
        """The most that w·u can differ from w·centre, rounded up.

        Args:
            rows: w, the same ones of all samples (k, p), or each sample's own (m, k, p).

        Returns:
            Tensor (m, k).
        """
        size = rows.abs()
        terms = rows.shape[-1]
        box = up(products(size, self.radius), terms)
        if self.ball is None:
            return box
        assert self.scale is not None
        assert self.rounding is not None
        length = torch.linalg.vector_norm(above(size * self.scale), dim=-1)
        length = length * (1 + error_of(terms))
        off = up(products(size, self.rounding), terms)
        ball: Tensor = above(above(length * self.ball[:, None]) + off)
        return torch.minimum(box, ball)

    def least(self, rows: Tensor) -> Tensor:
        """About where w·u is least in the region, for each sample's own rows w (m, k, p)."""
        if self.ball is None or self.scale is None:
            return self.centre[:, None] - self.radius[:, None] * rows.sign()
        scaled = rows * self.scale
        length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).clamp(min=1e-300)
        step: Tensor = self.ball[:, None, None] * self.scale * scaled / length
        return self.centre[:, None] - step


def products(rows: Tensor, vectors: Tensor) -> Tensor:
    """Rows (k, p) of all samples, or each one's own (m, k, p), times its vector (m, p): (m, k)."""
    return vectors @ rows.t() if rows.dim() == 2 else torch.einsum("mkp,mp->mk", rows, vectors)
