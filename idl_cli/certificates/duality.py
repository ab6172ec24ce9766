"""Lower bounds of linear forms of state and input, by duality with the equilibrium's equation.

For states and inputs that obey x = φ(z), z = Ax + Bu + b, and any multipliers λ,

    c·x + d·u = ν·x − λ·z + λ·b + (Bᵀλ + d)·u,    ν = c + Aᵀλ,

so that the sum over the states of min (ν_i φ(z) − λ_i z) over z̲_i ≤ z ≤ z̄_i, plus λ·b, plus the
least of (Bᵀλ + d)·u over the region, is a lower bound whatever λ is: it needs no convergence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.region import Region, products
from idl_cli.certificates.rounding import below, error_of, up
from idl_cli.certificates.state_box import StateBox


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

    def select(self, samples: Tensor | tuple[Tensor, Tensor]) -> Form:
        """Of some samples, or samples and forms, where each has its own: indices or a mask."""
        return Form(self.state[samples], self.inputs[samples], self.constant[samples])

    def single(self) -> Form:
        """In float32."""
        return Form(self.state.float(), self.inputs.float(), self.constant.float())


@dataclass(frozen=True)
class Relaxation:
    """φ on the boxes of m samples: what the dual bound needs of it, once for all forms.

    Attributes:
        equation: the model.
        region: of the inputs.
        nodes: points z of every pre-activation (j, m, n).
        values: φ there (j, m, n), as computed.
        wrong: how far a φ may be below all that (m, n).
        size: |A| |x| + |z| + |b| + |B| |u| at their largest (m, n), for what is rounded.
        state_size: largest |x| (m, n).
        input_size: largest |u| (m, p).
    """

    equation: Equation
    region: Region
    nodes: Tensor
    values: Tensor
    wrong: Tensor
    size: Tensor
    state_size: Tensor
    input_size: Tensor

    @classmethod
    def of(cls, equation: Equation, region: Region, box: StateBox) -> Relaxation:
        """Relax φ on proven boxes; its shape must be known."""
        graph, low, high = equation.graph, box.pre_low, box.pre_high
        nodes, gap = graph.nodes(low, high)
        values, wrong = graph.values(nodes)
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
            up(size + up(input_size @ equation.B.abs().t(), equation.inputs), 4),
            state_size,
            input_size,
        )

    def value(self, form: Form, multipliers: Tensor) -> Tensor:
        """The dual bound (m, k), rounded down.

        Args:
            form: k forms.
            multipliers: λ (m, k, n), any.
        """
        equation = self.equation
        sums = products(form.state.abs(), self.state_size) + form.constant.abs()
        return self._total(
            multipliers,
            form.state + multipliers @ equation.A,
            form.inputs + multipliers @ equation.B,
            form.constant + multipliers @ equation.state_bias,
            sums + products(form.inputs.abs(), self.input_size),
        )

    def pre_activations(self, chosen: Tensor, sign: int, multipliers: Tensor) -> Tensor:
        """The dual bound (m, k) of z_i, or of −z_i, rounded down.

        c, d and the constant are row i of A, B and b: they join the multipliers, as ±1 at i, and no
        rows have to be gathered. That sum's rounding is one of those of ``size``.

        Args:
            chosen: i of k states of every sample (m, k).
            sign: 1 or −1.
            multipliers: λ (m, k, n), any.
        """
        equation = self.equation
        ones = torch.full_like(multipliers[..., :1], sign)
        joint = multipliers.scatter_add(-1, chosen[..., None], ones)
        return self._total(
            multipliers,
            joint @ equation.A,
            joint @ equation.B,
            joint @ equation.state_bias,
            self.size.gather(1, chosen),
        )

    def _total(
        self, multipliers: Tensor, gradient: Tensor, inputs: Tensor, constant: Tensor, sums: Tensor
    ) -> Tensor:
        """Least of ν·φ(z) − λ·z + (Bᵀλ + d)·u + constant (m, k), rounded down.

        Args:
            multipliers: λ (m, k, n).
            gradient: ν (m, k, n).
            inputs: Bᵀλ + d (m, k, p).
            constant: λ·b and the form's own (m, k).
            sums: what the form itself adds to the magnitudes that are rounded (m, k).
        """
        terms = least(self.nodes, self.values, gradient, multipliers)[0]
        terms = terms - gradient.abs() * self.wrong[:, None]
        value = terms.sum(-1) + constant + products(inputs, self.region.centre)
        sums = sums + products(multipliers.abs(), self.size)
        error = up(sums, self.equation.terms) * error_of(4 * self.equation.terms)
        return below(value - up(self.region.reach(inputs) + error, 4))


def least(
    nodes: Tensor, values: Tensor, gradient: Tensor, multipliers: Tensor
) -> tuple[Tensor, Tensor]:
    """Min over nodes z (j, m, n) of ν φ(z) − λ z (m, k, n), and at which."""
    best = gradient * values[0][:, None] - multipliers * nodes[0][:, None]
    where = torch.zeros_like(best, dtype=torch.uint8)
    for place in range(1, len(nodes)):
        value = gradient * values[place][:, None]
        value -= multipliers * nodes[place][:, None]
        where.masked_fill_(value < best, place)
        # NaN stays NaN
        best = torch.minimum(best, value)
    return best, where
