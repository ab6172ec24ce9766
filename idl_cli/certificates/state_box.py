"""The interval equilibrium: boxes that hold the states of every input of a region.

A box counts as proven only when one outward-rounded step maps it into itself: the equilibrium of
every input then lies inside (Brouwer, and uniqueness by ρ(L|A|) < 1). Further steps only tighten a
proven box, so stopping early is safe; an iteration from zero that is stopped early is not. The
embedded network is that of Davydov et al., "Robust implicit networks via non-Euclidean
contractions" (arXiv 2106.03194; 2208.03889).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.rounding import above, below, error_of, up
from idl_cli.certificates.well_posedness import WellPosedness

_STEPS: Final = 50
_SETTLED: Final = 1e-3  # of the widths, below which another step is not worth its product
_INFLATION: Final = 1e-9


@dataclass(frozen=True)
class StateBox:
    """States and pre-activations of every input of each region, all (m, n) float64.

    Attributes:
        low: x̲; NaN where nothing is proven.
        high: x̄.
        pre_low: z̲ of z = Ax + Bu + b.
        pre_high: z̄.
    """

    low: Tensor
    high: Tensor
    pre_low: Tensor
    pre_high: Tensor

    def select(self, samples: Tensor) -> StateBox:
        """The boxes of some samples."""
        return StateBox(
            self.low[samples], self.high[samples], self.pre_low[samples], self.pre_high[samples]
        )

    def replaced(self, samples: Tensor, others: StateBox) -> StateBox:
        """These with others in place of some samples' (mask or indices)."""
        ends = [(self.low, others.low), (self.high, others.high)]
        ends += [(self.pre_low, others.pre_low), (self.pre_high, others.pre_high)]
        return StateBox(*(own.index_put((samples,), other) for own, other in ends))

    @property
    def centre(self) -> Tensor:
        """(m, n)."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Tensor:
        """(m, n), rounded up."""
        centre = self.centre
        return above(torch.maximum(self.high - centre, centre - self.low))

    def within(self, pre_low: Tensor, pre_high: Tensor, equation: Equation) -> StateBox:
        """The part in which the pre-activations are within further bounds."""
        z_low = torch.maximum(self.pre_low, pre_low)
        z_high = torch.minimum(self.pre_high, pre_high)
        low, high = equation.graph.image(z_low, z_high)
        return StateBox(torch.maximum(self.low, low), torch.minimum(self.high, high), z_low, z_high)


def enclose(
    equation: Equation,
    proof: WellPosedness,
    offset: tuple[Tensor, Tensor, Tensor],
    state: tuple[Tensor, Tensor],
) -> StateBox:
    """Prove boxes around the states at the centres, and tighten them.

    Args:
        equation: the model.
        proof: that it is well-posed.
        offset: Bu + b at the centres, its reach, its rounding error, each (m, n).
        state: the states at the centres and their error, each (m, n).
    """
    guess, error = state
    spread = proof.forward.supersolution(up(offset[1] * proof.lipschitz))
    radius = above(error + spread) * (1 + _INFLATION)
    radius = radius + proof.forward.weights * (_INFLATION * radius.amax(1, keepdim=True)) + 1e-280
    box = _with_pre(equation, offset, below(guess - radius), above(guess + radius))
    low, high = equation.graph.image(box.pre_low, box.pre_high)
    proven = ((low >= box.low) & (high <= box.high)).all(1, keepdim=True)
    box = replace(box, low=low.where(proven, torch.nan), high=high.where(proven, torch.nan))
    return tightened(equation, offset, box)


def tightened(equation: Equation, offset: tuple[Tensor, Tensor, Tensor], box: StateBox) -> StateBox:
    """Step proven boxes until their widths settle."""
    width = box.high - box.low
    for _ in range(_STEPS):
        further = _with_pre(equation, offset, box.low, box.high)
        box = box.within(further.pre_low, further.pre_high, equation)
        following = box.high - box.low
        gain = (width - following).sum(1) / width.sum(1).clamp(min=1e-300)
        width = following
        if not bool((gain > _SETTLED).any()):
            break
    further = _with_pre(equation, offset, box.low, box.high)
    return replace(
        box,
        pre_low=torch.maximum(box.pre_low, further.pre_low),
        pre_high=torch.minimum(box.pre_high, further.pre_high),
    )


def _with_pre(
    equation: Equation, offset: tuple[Tensor, Tensor, Tensor], low: Tensor, high: Tensor
) -> StateBox:
    """The box with the pre-activations of its states, rounded outward."""
    box = StateBox(low, high, low, high)
    centre, radius = box.centre, box.radius
    value, reach, wrong = offset
    size, relative = above(centre.abs() + radius), error_of(equation.states + 2)
    z = torch.addmm(value, centre, equation.A.t())
    spread = up((radius + relative * size) @ equation.magnitude.t(), equation.states)
    if equation.product_error is not None:
        spread = spread + up(size @ equation.product_error.t(), equation.states)
    spread = up(spread + reach + wrong + relative * value.abs(), 4)
    return replace(box, pre_low=below(z - spread), pre_high=above(z + spread))
