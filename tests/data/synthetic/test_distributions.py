from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from idl_cli.data.randomness import Purpose
from idl_cli.data.synthetic.distributions import normal, uniform


def test_uniform_numbers_are_uniform_and_stay_inside() -> None:
    drawn = uniform(20_000, -2.0, 6.0, Purpose.TEST_NUMBERS, 3)
    assert drawn.min() > -2.0
    assert drawn.max() < 6.0
    # The seed is fixed: the outcome is the same in every run, not one in a thousand.
    assert kstest(drawn, "uniform", (-2.0, 8.0)).pvalue > 0.001


def test_normal_numbers_have_the_deviation() -> None:
    drawn = normal(20_000, 0.35, Purpose.NOISE, 1)
    assert np.isfinite(drawn).all()
    assert kstest(drawn, "norm", (0.0, 0.35)).pvalue > 0.001


def test_a_range_is_the_unit_range_scaled() -> None:
    unit = uniform(100, -0.5, 0.5, Purpose.TEST_NUMBERS, 7)
    wide = uniform(100, -5e4, 5e4, Purpose.TEST_NUMBERS, 7)
    # low + (high - low)·v rounds at the size of low.
    np.testing.assert_allclose(wide, 1e5 * unit, rtol=0, atol=1e-10)
