"""Lower bounds of linear forms of state and input, by duality with the equilibrium's equation.

For states and inputs that obey x = φ(z), z = Ax + Bu + b, and any multipliers λ,

    c·x + d·u = ν·x − λ·z + λ·b + (Bᵀλ + d)·u,    ν = c + Aᵀλ,

so that the sum over the states of min (ν_i φ(z) − λ_i z) over z̲_i ≤ z ≤ z̄_i, plus λ·b, plus the
least of (Bᵀλ + d)·u over the region, is a lower bound whatever λ is: it needs no convergence. The
multipliers of a linear relaxation (CROWN, arXiv 1811.00866) solve λ = s(ν) ∘ ν, ν = c + Aᵀλ, with s
the slope of the line below or above φ by the sign of ν: a fixed point that contracts as A does.
Improved multipliers stand for optimised slopes (α-CROWN, arXiv 2011.13824): the bound is concave
in λ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.region import Region, products
from idl_cli.certificates.rounding import below, error_of, up
from idl_cli.certificates.state_box import StateBox

_STEPS: Final = 60
_SETTLED: Final = 1e-4
_WARM_STEPS: Final = 4
_RATE, _DECAY, _MOMENT, _SCALE = 0.2, 0.92, 0.9, 0.99


@dataclass(frozen=True)
class Form:
    """Linear forms c·x + d·u + constant of every sample.

    Attributes:
        state: c (m, k, n), or (k, n) of all samples.
        inputs: d (m, k, p), or (k, p).
        constant: (m, k), or (k,).
    """

    state: Tensor
    inputs: Tensor
    constant: Tensor


@dataclass(frozen=True)
class Relaxation:
    """φ on the boxes of m samples: what the dual bound needs of it, once for all forms.

    Attributes:
        equation: the model.
        region: of the inputs.
        nodes: points z of every pre-activation (j, m, n).
        values: φ there (j, m, n), as computed.
        wrong: how far a φ may be below all that (m, n).
        lower: slope of a line below φ, or near one (m, n).
        upper: slope of a line above φ, or near one (m, n).
        size: |A| |x| + |z| + |b| + |B| |u| at their largest (m, n), for what is rounded.
        state_size: largest |x| (m, n).
        input_size: largest |u| (m, p).
    """

    equation: Equation
    region: Region
    nodes: Tensor
    values: Tensor
    wrong: Tensor
    lower: Tensor
    upper: Tensor
    size: Tensor
    state_size: Tensor
    input_size: Tensor

    @classmethod
    def of(cls, equation: Equation, region: Region, box: StateBox) -> Relaxation:
        """Relax φ on proven boxes; its shape must be known."""
        graph, low, high = equation.graph, box.pre_low, box.pre_high
        nodes, gap = graph.nodes(low, high)
        values, wrong = graph.values(nodes)
        derivative = graph.activation.derivative
        width = high - low
        secant = (graph.activation.function(high) - graph.activation.function(low)) / width
        state_size = up(values.abs().amax(0) + wrong.amax(0) + gap)
        input_size = up(region.centre.abs() + region.radius)
        size = up(state_size @ equation.magnitude.t(), equation.states)
        if equation.product_error is not None:
            size = size + state_size @ equation.product_error.t() / error_of(equation.terms)
        size = size + torch.maximum(low.abs(), high.abs()) + equation.state_bias.abs()
        return cls(
            equation,
            region,
            nodes,
            values,
            up(gap + wrong.amax(0)),
            derivative((low + high) / 2),
            secant.where(width > 0, derivative(low)),
            up(size + up(input_size @ equation.B.abs().t(), equation.inputs), 4),
            state_size,
            input_size,
        )

    def multipliers(self, form: Form) -> Tensor:
        """λ (m, k, n) of the linear relaxation, about: the backward equilibrium, in float32."""
        matrix, target = self.equation.A.float(), form.state.float()
        lower, upper = (each.float()[:, None] for each in (self.lower, self.upper))
        gradient = target.expand(len(lower), *target.shape[-2:])
        for _ in range(_STEPS):
            following = target + torch.where(gradient >= 0, lower, upper) * gradient @ matrix
            change = float((following - gradient).abs().max())
            gradient = following
            if not change > _SETTLED * float(gradient.abs().max()):
                break
        return (torch.where(gradient >= 0, lower, upper) * gradient).double()

    def value(self, form: Form, multipliers: Tensor) -> Tensor:
        """The dual bound (m, k), rounded down.

        Args:
            form: k forms.
            multipliers: λ (m, k, n), any.
        """
        equation, region = self.equation, self.region
        gradient = form.state + multipliers @ equation.A
        least = self._least(gradient, multipliers)[0]
        least = least - gradient.abs() * self.wrong[:, None]
        inputs = multipliers @ equation.B + form.inputs
        value = least.sum(-1) + multipliers @ equation.state_bias + form.constant
        value = value + products(inputs, region.centre)
        sums = products(multipliers.abs(), self.size)
        sums = sums + products(form.state.abs(), self.state_size) + form.constant.abs()
        sums = sums + products(form.inputs.abs(), self.input_size)
        error = up(sums, equation.terms) * error_of(4 * equation.terms)
        return below(value - up(region.reach(inputs) + error, 4))

    def improved(self, form: Form, multipliers: Tensor, steps: int) -> Tensor:
        """The best dual bound (m, k) found by ascent in the slopes, from those of ``multipliers``.

        The derivative with respect to the slopes follows from an adjoint equilibrium; both are kept
        warm from step to step.
        """
        matrix = self.equation.A
        gradient = form.state + multipliers @ matrix
        best = self.value(form, multipliers)
        slopes = torch.where(gradient >= 0, self.lower[:, None], self.upper[:, None])
        free = (self.lower != self.upper)[:, None]
        limit = self.equation.graph.activation.lipschitz
        adjoint = torch.zeros_like(gradient)
        moment, scale = torch.zeros_like(slopes), torch.zeros_like(slopes)
        for step in range(1, steps + 1):
            slack = self._slack(form, gradient, multipliers)
            for _ in range(_WARM_STEPS):
                adjoint = slack + (slopes * adjoint) @ matrix.t()
            ascent = (gradient * adjoint).where(free, 0.0)
            moment = _MOMENT * moment + (1 - _MOMENT) * ascent
            scale = _SCALE * scale + (1 - _SCALE) * ascent.square()
            size = (scale / (1 - _SCALE**step)).sqrt().clamp(min=1e-12)
            rate = _RATE * _DECAY**step / (1 - _MOMENT**step)
            slopes = (slopes + rate * moment / size).clamp(0, limit).where(free, slopes)
            for _ in range(_WARM_STEPS):
                gradient = form.state + (slopes * gradient) @ matrix
            multipliers = slopes * gradient
            best = torch.fmax(best, self.value(form, multipliers))
        return best

    def _slack(self, form: Form, gradient: Tensor, multipliers: Tensor) -> Tensor:
        """A x + B u + b − z (m, k, n) at the minimisers: the derivative with respect to λ."""
        where = self._least(gradient, multipliers)[1].long()
        nodes, values = (
            each[:, :, None].expand(-1, -1, where.shape[1], -1).gather(0, where[None])[0]
            for each in (self.nodes, self.values)
        )
        u = self.region.least(multipliers @ self.equation.B + form.inputs)
        bias = self.equation.state_bias
        return values @ self.equation.A.t() + u @ self.equation.B.t() + bias - nodes

    def _least(self, gradient: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """Min over the nodes of ν φ(z) − λ z (m, k, n), and at which."""
        best = gradient * self.values[0][:, None] - multipliers * self.nodes[0][:, None]
        where = torch.zeros_like(best, dtype=torch.uint8)
        for place in range(1, len(self.nodes)):
            value = gradient * self.values[place][:, None]
            value -= multipliers * self.nodes[place][:, None]
            where.masked_fill_(value < best, place)
            # NaN stays NaN
            best = torch.minimum(best, value)
        return best, where
