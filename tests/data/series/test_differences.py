from __future__ import annotations

import numpy as np
import pytest

from idl_cli.data.series.differences import Differences, is_steadier


def test_changes_are_measured_step_by_step_of_the_horizon() -> None:
    first = np.array([0.0, 1.0, 3.0, 6.0, 10.0])
    made = Differences.fit(np.stack([np.zeros(5), first], axis=1), 1, 2)
    # Changes of one row: 1, 2, 3, 4; of two rows: 3, 5, 7. A column that never changes keeps 1.
    assert made.input_scale == pytest.approx((1.0, np.std([1, 2, 3, 4])))
    assert made.mean == pytest.approx((2.5, 5.0))
    assert made.scale == pytest.approx((np.std([1, 2, 3, 4]), np.std([3, 5, 7])))
    assert Differences.from_dict(made.to_dict()) == made


def test_gaps_are_left_out() -> None:
    series = np.array([0.0, 1.0, np.nan, 6.0, 10.0])[:, None]
    made = Differences.fit(series, 0, 1)
    assert made.mean == pytest.approx((2.5,))
    assert made.scale == pytest.approx((1.5,))


def test_a_walk_is_steadier_in_its_changes_and_noise_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 1))
    assert is_steadier(noise.cumsum(axis=0), 0)
    assert not is_steadier(noise, 0)
