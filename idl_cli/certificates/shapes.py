"""What bounds need to know of an activation's graph, and its image of an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.rounding import TINY, UNIT, above, below
from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.conditions import MONOTONE

_EVALUATION: Final = 32 * UNIT  # torch's elementary functions are right to a few units
_CHOOSING: Final = ("relu", "identity", "abs", "hardtanh", "relu6")  # nothing is rounded
_GRID: Final = 9


@dataclass(frozen=True)
class Shape:
    """A piecewise smooth graph.

    Attributes:
        kinks: where φ′ jumps.
        curvature: at least |φ″| between the kinks; 0 for a piecewise linear φ.
        slack: absolute error of torch's φ beyond the rounding of its elementary functions.
    """

    kinks: tuple[float, ...] = ()
    curvature: float = 0.0
    slack: float = 0.0


SHAPES: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "relu": Shape((0.0,)),
        "leaky_relu": Shape((0.0,)),
        "identity": Shape(),
        "abs": Shape((0.0,)),
        "hardtanh": Shape((-1.0, 1.0)),
        "relu6": Shape((0.0, 6.0)),
        "hardsigmoid": Shape((-3.0, 3.0)),
        "softshrink": Shape((-0.5, 0.5)),
        "tanh": Shape(curvature=0.7699),
        "sigmoid": Shape(curvature=0.09623),
        "elu": Shape(curvature=1.0),
        "selu": Shape((0.0,), curvature=1.7581),
        # torch gives z itself beyond z = 20: a jump of log(1 + e⁻²⁰) = 2.1e-9
        "softplus": Shape(curvature=0.25, slack=3e-9),
        "logsigmoid": Shape(curvature=0.25),
        "softsign": Shape(curvature=2.0),
        "arctan": Shape(curvature=0.6496),
        "sin": Shape(curvature=1.0),
        "gelu": Shape(curvature=0.7979),
        "silu": Shape(curvature=0.5),
        "mish": Shape(curvature=0.65),
        "hardswish": Shape((-3.0, 3.0), curvature=1 / 3),
    }
)
"""Of the activations of ``equilibrium.conditions``; of another only its Lipschitz constant is used.
"""


@dataclass(frozen=True)
class Graph:
    """φ with its shape; None where nothing but the Lipschitz constant is known."""

    activation: Activation
    shape: Shape | None

    @classmethod
    def of(cls, activation: Activation) -> Graph:
        """Look the shape up."""
        return cls(activation, SHAPES.get(activation.name))

    def values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ(z) as computed, and what it may be wrong by."""
        value = self.activation.function(z)
        if self.activation.name in _CHOOSING:
            return value, torch.zeros_like(value)
        if self.activation.name == "leaky_relu":
            return value, value.abs() * _EVALUATION + TINY
        slack = 0.0 if self.shape is None else self.shape.slack
        return value, (1 + value.abs() + z.abs()) * _EVALUATION + slack

    def image(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of φ on intervals, rounded outward; shapes as given."""
        if self.shape is not None and self.activation.name in MONOTONE:
            (first, wrong), (last, wrong_last) = self.values(low), self.values(high)
            return below(first - wrong), above(last + wrong_last)
        if self.shape is None:
            centre = (low + high) / 2
            value, wrong = self.values(centre)
            radius = torch.maximum(high - centre, centre - low)
            reach = above(above(radius * self.activation.lipschitz * (1 + 8 * UNIT)) + wrong)
            return below(value - reach), above(value + reach)
        nodes, gap = self.nodes(low, high)
        value, wrong = self.values(nodes)
        return (
            below((value - wrong).amin(0) - gap),
            above((value + wrong).amax(0) + gap),
        )

    def nodes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Points that bound what is done to φ on intervals.

        Between neighbouring points φ is within ``gap`` of its linear interpolation, so that the
        least of νφ(z) − λz over an interval is at least its least over the points, less |ν| gap.

        Returns:
            points (k, …) in no order, and gap (…) rounded up.
        """
        assert self.shape is not None
        steps = 2 if self.shape.curvature == 0 else _GRID
        width = above(high - low)
        points = [low, *(low + width * (j / (steps - 1)) for j in range(1, steps - 1)), high]
        points += [low.clamp(min=kink).minimum(high) for kink in self.shape.kinks]
        spacing = width / (steps - 1) * (1 + 32 * UNIT) + (low.abs() + high.abs()) * (8 * UNIT)
        gap = spacing.square() * (self.shape.curvature / 8) * (1 + 32 * UNIT)
        inside = [torch.minimum(point, high) for point in points]
        return torch.stack(inside), gap if self.shape.curvature else torch.zeros_like(low)
