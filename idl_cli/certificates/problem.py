"""A batch of samples to judge: their regions, their classes, and what all bounds need of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.region import Region, products
from idl_cli.certificates.rounding import above, below, error_of, up
from idl_cli.certificates.state_box import StateBox, enclose
from idl_cli.certificates.well_posedness import WellPosedness

_KEPT: Final = ("state", "offset", "centre_margins", "box")


@dataclass(frozen=True)
class Judged:
    """A model and the proof that its equilibrium is unique."""

    equation: Equation
    proof: WellPosedness

    @classmethod
    def of(cls, equation: Equation) -> Judged:
        """Prove it.

        Raises:
            UnsupportedModelError: it cannot be proven.
        """
        return cls(equation, WellPosedness.prove(equation))


class Problem:
    """For every u of a sample's region: by how much does its class i lead each other class j?

    Args:
        judged: the model.
        region: of m samples.
        classes: i of every sample (m,).
    """

    def __init__(self, judged: Judged, region: Region, classes: Tensor) -> None:
        self.judged, self.region, self.classes = judged, region, classes

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, samples: Tensor) -> Problem:
        """The same question of some samples (mask or indices), with what is known of them."""
        made = Problem(self.judged, self.region.select(samples), self.classes[samples])
        for name in _KEPT:
            known = self.__dict__.get(name)
            if isinstance(known, Tensor):
                made.__dict__[name] = known[samples]
            elif isinstance(known, tuple):
                made.__dict__[name] = tuple(each[samples] for each in known)
            elif isinstance(known, StateBox):
                made.__dict__[name] = known.select(samples)
        return made

    @cached_property
    def differences(self) -> tuple[Tensor, Tensor, Tensor]:
        """C_i − C_j (m, q, n), D_i − D_j (m, q, p), c_i − c_j (m, q); one rounding each."""
        equation, i = self.judged.equation, self.classes
        return (
            equation.C[i][:, None] - equation.C,
            equation.D[i][:, None] - equation.D,
            equation.output_bias[i][:, None] - equation.output_bias,
        )

    @cached_property
    def state(self) -> tuple[Tensor, Tensor]:
        """A guess of the states at the centres (m, n), and its proven error (m, n).

        |x̃ − x| ≤ (I − L|A|)⁻¹ |x̃ − φ(Ax̃ + Bu + b)|, whatever solve gave x̃.
        """
        equation, proof = self.judged.equation, self.judged.proof
        guess = equation.state(self.region.centre)
        image, wrong = equation.graph.values(torch.addmm(self.offset[0], guess, equation.A.t()))
        sums = up(guess.abs() @ equation.magnitude.t(), equation.states) + self.offset[0].abs()
        off = error_of(equation.terms) * sums + self.offset[2]
        if equation.product_error is not None:
            off = off + up(guess.abs() @ equation.product_error.t(), equation.states)
        residual = above(above(image - guess).abs() + wrong + above(off) * proof.lipschitz)
        return guess, proof.forward.supersolution(up(residual, 4))

    @cached_property
    def offset(self) -> tuple[Tensor, Tensor, Tensor]:
        """Bu + b at the centres (m, n), its reach over the regions, and its rounding error."""
        equation, u = self.judged.equation, self.region.centre
        value = torch.addmm(equation.state_bias, u, equation.B.t())
        sums = up(u.abs() @ equation.B.abs().t(), equation.inputs) + equation.state_bias.abs()
        return value, self.region.reach(equation.B), up(error_of(equation.inputs + 1) * sums)

    @cached_property
    def centre_margins(self) -> Tensor:
        """At least f_i − f_j at the centres (m, q); +inf where j = i."""
        state, error = self.state
        return self.linear_margins(state, error, None)

    @cached_property
    def box(self) -> StateBox:
        """The interval equilibrium of every region."""
        return enclose(self.judged.equation, self.judged.proof, self.offset, self.state)

    def linear_margins(self, state: Tensor, radius: Tensor, region: Region | None) -> Tensor:
        """At least f_i − f_j (m, q) where x is in state ± radius, and u in region or the centre."""
        C, D, constant = self.differences
        u = self.region.centre
        value = products(C, state) + products(D, u) + constant
        spread = products(C.abs(), radius)
        sums = products(C.abs(), state.abs() + radius) + constant.abs()
        sums = sums + products(D.abs(), u.abs())
        loss = up(spread, self.judged.equation.terms) + error_of(
            self.judged.equation.terms + 2
        ) * up(sums, self.judged.equation.terms)
        if region is not None:
            loss = loss + region.reach(D)
        return self.without_own(below(value - up(loss)))

    def without_own(self, margins: Tensor) -> Tensor:
        """Margins (m, q) with +inf in place of a class against itself."""
        return margins.scatter(1, self.classes[:, None], torch.inf)
