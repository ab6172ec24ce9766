"""The dual bound as computed in float32: what multipliers are searched with.

What a search comes to is bounded by ``Relaxation`` afterwards, whatever it is. The multipliers of a
linear relaxation (CROWN, arXiv 1811.00866) solve λ = s(ν) ∘ ν, ν = c + Aᵀλ, with s the slope of the
line below or above φ by the sign of ν: a fixed point that contracts as A does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.duality import Form, least
from idl_cli.certificates.equation import Equation
from idl_cli.certificates.region import Region

_STEPS: Final = 60
_SETTLED: Final = 1e-4


@dataclass(frozen=True)
class Estimate:
    """φ on the boxes of m samples, all float32.

    Attributes:
        A: (n, n).
        B: (n, p).
        bias: b (n,).
        region: of the inputs.
        nodes: points z of every pre-activation (j, m, n).
        values: φ there (j, m, n).
        lower: slope of a line below φ, or near one (m, n).
        upper: slope of a line above φ, or near one (m, n).
        lipschitz: the largest slope of φ.
    """

    A: Tensor
    B: Tensor
    bias: Tensor
    region: Region
    nodes: Tensor
    values: Tensor
    lower: Tensor
    upper: Tensor
    lipschitz: float

    @classmethod
    def of(cls, equation: Equation, region: Region, low: Tensor, high: Tensor) -> Estimate:
        """Of boxes z̲, z̄ (m, n); the shape of φ must be known."""
        A, B, bias = equation.single
        low, high = low.float(), high.float()
        activation = equation.graph.activation
        nodes, _ = equation.graph.nodes(low, high)
        values = activation.function(nodes)
        width = high - low
        secant = (activation.function(high) - activation.function(low)) / width
        return cls(
            *(A, B, bias, region.single(), nodes, values),
            activation.derivative((low + high) / 2),
            secant.where(width > 0, activation.derivative(low)),
            activation.lipschitz,
        )

    def slopes(self, gradient: Tensor) -> Tensor:
        """S (m, k, n) of the linear relaxation at ν (m, k, n)."""
        return torch.where(gradient >= 0, self.lower[:, None], self.upper[:, None])

    def gradient(self, state: Tensor, settled: float = _SETTLED) -> Tensor:
        """ν (m, k, n) of the linear relaxation, about: to a share of the largest.

        Args:
            state: c of the forms (m, k, n), or (k, n) of all samples.
            settled: the share.
        """
        target = state.float()
        gradient = target.expand(len(self.lower), *target.shape[-2:])
        for _ in range(_STEPS):
            following = target + (self.slopes(gradient) * gradient) @ self.A
            change = float((following - gradient).abs().max())
            gradient = following
            if not change > settled * float(gradient.abs().max()):
                break
        return gradient

    def multipliers(self, state: Tensor, settled: float = _SETTLED) -> Tensor:
        """λ (m, k, n) of the linear relaxation, in float64: the backward equilibrium.

        Args:
            state: as of ``gradient``.
            settled: as of ``gradient``.
        """
        gradient = self.gradient(state, settled)
        return (self.slopes(gradient) * gradient).double()

    def value(self, form: Form, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """About the dual bound (m, k), and its derivative with respect to λ (m, k, n).

        The derivative is A x + B u + b − z at the minimisers.

        Args:
            form: float32.
            multipliers: λ (m, k, n), float32.
        """
        gradient = form.state + multipliers @ self.A
        inputs = multipliers @ self.B + form.inputs
        terms, where = least(self.nodes, self.values, gradient, multipliers)
        u = self.region.least(inputs)
        value = terms.sum(-1) + multipliers @ self.bias + form.constant + (inputs * u).sum(-1)
        index = where.long()[None]
        z, x = (
            each[:, :, None].expand(-1, -1, where.shape[1], -1).gather(0, index)[0]
            for each in (self.nodes, self.values)
        )
        return value, x @ self.A.t() + u @ self.B.t() + self.bias - z
