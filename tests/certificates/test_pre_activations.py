"""Bounds of every state by duality: the rows of A and B join the multipliers."""

from __future__ import annotations

import pytest
import torch

from idl_cli.certificates.duality import Form, Relaxation
from tests.certificates.models import KINDS, problem, random_model, samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_they_are_those_of_the_row_as_a_form(kind: str, sign: int) -> None:
    asked = problem(random_model(**KINDS[kind]), samples(), 0.05)
    equation, relaxed = (
        asked.judged.equation,
        Relaxation.of(asked.judged.equation, asked.region, asked.box),
    )
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(equation.states, (6, 7), generator=generator)
    # Any multipliers give a bound; float32's are what a search comes to.
    drawn = torch.randn(6, 7, equation.states, generator=generator)
    for multipliers in (drawn.double(), torch.zeros(6, 7, equation.states).double()):
        found = relaxed.pre_activations(chosen, sign, multipliers)
        form = Form(
            sign * equation.A[chosen],
            sign * equation.B[chosen],
            sign * equation.state_bias[chosen],
        )
        same = relaxed.value(form, multipliers)
        torch.testing.assert_close(found, same, rtol=1e-9, atol=1e-9)
        inputs = asked.region.centre + asked.region.radius * (
            2 * torch.rand(1000, 6, equation.inputs, generator=generator).double() - 1
        )
        with torch.no_grad():
            x = equation.model.equilibrium(inputs.flatten(0, 1))
        z = (x @ equation.A.t() + inputs.flatten(0, 1) @ equation.B.t() + equation.state_bias).view(
            1000, 6, -1
        )
        least = (sign * z).amin(0).gather(1, chosen)
        assert bool((found <= least + 1e-9 * (1 + least.abs())).all())
