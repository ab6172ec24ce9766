"""Multipliers that raise a dual bound: λ = s ∘ ν + δ, by ascent in the slopes s and the shifts δ.

Optimised slopes are α-CROWN's (arXiv 2011.13824). δ is of states whose box a cut has made smaller
than what they reach: there φ may be affine, so that s is fixed, and δ is the multiplier of the
cut's constraint, as in β-CROWN (arXiv 2103.06624). The bound is concave in λ, and holds for any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.duality import Form
from idl_cli.certificates.estimate import Estimate

_WARM_STEPS: Final = 4
_RATE, _DECAY, _MOMENT, _SCALE = 0.2, 0.92, 0.9, 0.99


@dataclass(frozen=True)
class Start:
    """Where an ascent begins, or ended; float32.

    Attributes:
        slopes: s (m, k, n).
        shifts: δ (m, k, n), 0 of states without a cut.
        gradient: ν (m, k, n), about.
    """

    slopes: Tensor
    shifts: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, estimate: Estimate, form: Form) -> Start:
        """That of the linear relaxation."""
        gradient = estimate.gradient(form.state)
        slopes = estimate.slopes(gradient)
        return cls(slopes, torch.zeros_like(slopes), gradient)

    def with_slopes(self, slopes: Tensor) -> Start:
        """The same with other slopes (m, k, n)."""
        return replace(self, slopes=slopes)

    def select(self, samples: Tensor | tuple[Tensor, Tensor]) -> Start:
        """Of some samples, or samples and forms: indices or a mask."""
        return Start(self.slopes[samples], self.shifts[samples], self.gradient[samples])

    def settled(self, estimate: Estimate, form: Form, steps: int = _WARM_STEPS) -> Start:
        """ν after a few steps of its fixed point, of a form in float32."""
        gradient = self.gradient
        for _ in range(steps):
            gradient = form.state + (self.slopes * gradient + self.shifts) @ estimate.A
        return replace(self, gradient=gradient)

    @property
    def multipliers(self) -> Tensor:
        """λ (m, k, n)."""
        return self.slopes * self.gradient + self.shifts


def improved(
    estimate: Estimate, form: Form, start: Start, steps: int, cut: Tensor | None = None
) -> tuple[Tensor, Start]:
    """The best multipliers λ (m, k, n) that an ascent met, in float64, and where it ended.

    The derivative with respect to s and δ follows from an adjoint equilibrium; it and ν are kept
    warm from step to step.

    Args:
        estimate: of the boxes.
        form: k forms of every sample.
        start: where to begin.
        steps: of ascent.
        cut: whether a state's shift is free (m, n); None where none is.
    """
    form = form.single()
    free = (estimate.lower != estimate.upper)[:, None]
    adjoint = torch.zeros_like(start.gradient)
    slopes_by, shifts_by = _Steps(start.slopes), _Steps(start.shifts)
    best = torch.full_like(start.gradient[..., 0], -torch.inf)
    at = start.multipliers
    for step in range(1, steps + 2):
        multipliers = start.multipliers
        value, slack = estimate.value(form, multipliers)
        better = value > best
        best, at = value.where(better, best), multipliers.where(better[..., None], at)
        if step > steps:
            break
        for _ in range(_WARM_STEPS):
            adjoint = slack + (start.slopes * adjoint) @ estimate.A.t()
        rise = slopes_by((start.gradient * adjoint).where(free, 0.0), step)
        slopes = (start.slopes + rise).clamp(0, estimate.lipschitz).where(free, start.slopes)
        shifts = start.shifts
        if cut is not None:
            size = start.gradient.abs().mean(-1, keepdim=True)
            shifts = shifts + size * shifts_by(adjoint * cut[:, None], step)
        start = Start(slopes, shifts, start.gradient).settled(estimate, form)
    return at.double(), start


class _Steps:
    """Adam's steps, of a rate that decays."""

    def __init__(self, like: Tensor) -> None:
        self._moment, self._scale = torch.zeros_like(like), torch.zeros_like(like)

    def __call__(self, ascent: Tensor, step: int) -> Tensor:
        self._moment = _MOMENT * self._moment + (1 - _MOMENT) * ascent
        self._scale = _SCALE * self._scale + (1 - _SCALE) * ascent.square()
        size = (self._scale / (1 - _SCALE**step)).sqrt().clamp(min=1e-12)
        return _RATE * _DECAY**step / (1 - _MOMENT**step) * self._moment / size
