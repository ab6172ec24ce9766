"""Regions hold every input that they should, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.certificates.region import InputUnit
from idl_cli.data.preprocessing import Preprocessing

DOUBLE = torch.float64


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    value=st.floats(-0.2, 1.2),
    epsilon=st.floats(0, 2) | st.just(0.0),
    mean=st.floats(-1, 1),
    deviation=st.floats(1e-3, 1e3),
    clipped=st.booleans(),
)
def test_the_ends_are_inside(
    value: float, epsilon: float, mean: float, deviation: float, clipped: bool
) -> None:
    valid = (0.0, 1.0) if clipped else None
    made = InputUnit(*(torch.tensor([each], dtype=DOUBLE) for each in (mean, deviation)), valid)
    sample, radius = torch.tensor([[value]], dtype=DOUBLE), torch.tensor([epsilon], dtype=DOUBLE)
    low, high = Fraction(value) - Fraction(epsilon), Fraction(value) + Fraction(epsilon)
    if clipped:
        low = max(low, min(Fraction(value), Fraction(0)))
        high = min(high, max(Fraction(value), Fraction(1)))
    for norm in ("linf", "l2"):
        region = made.region(sample, radius, norm)
        centre, reach = Fraction(float(region.centre)), Fraction(float(region.radius))
        for end in (low, high):
            exact = (end - Fraction(mean)) / Fraction(deviation)
            assert centre - reach <= exact <= centre + reach
        # and no more than rounding beyond
        wide = Fraction(1e-12) * (abs(centre) + reach + Fraction(abs(mean) / deviation) + 1)
        if norm == "linf":
            assert 2 * reach <= (high - low) / Fraction(deviation) + wide


def test_the_reach_of_a_ball_is_its_dual_norm() -> None:
    deviation = torch.tensor([0.5, 2.0, 1.0], dtype=DOUBLE)
    unit = InputUnit(torch.zeros(3, dtype=DOUBLE), deviation)
    region = unit.region(torch.zeros(1, 3, dtype=DOUBLE), torch.tensor([0.1], dtype=DOUBLE), "l2")
    row = torch.tensor([[1.0, -2.0, 3.0]], dtype=DOUBLE)
    expected = 0.1 * float((row / deviation).norm())
    assert float(region.reach(row)) == pytest.approx(expected, rel=1e-9)
    assert float(region.reach(row)) >= expected
    assert float(region.reach(row[None])) == pytest.approx(expected, rel=1e-9)
    least = region.least(row[None])
    assert float((least * row).sum()) == pytest.approx(-expected, rel=1e-9)


def test_the_unit_is_that_of_the_preprocessing() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    fitted = Preprocessing.fit(images, "channel", divisor=255.0)
    unit = InputUnit.of(fitted, (0.0, 1.0))
    values = images.double().flatten(1) / 255
    expected = fitted(images, dtype=DOUBLE).flatten(1)
    assert torch.allclose(unit.inputs(values), expected, rtol=1e-6)
    plain = InputUnit.of(Preprocessing.fit(images, "none", divisor=255.0))
    assert torch.equal(plain.inputs(values), values)
