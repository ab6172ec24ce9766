from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.data.moments import mean_and_deviation
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.differences import Differences
from idl_cli.errors import DataError

SCALES = [10.0**power for power in range(-12, 13, 4)]


@pytest.mark.parametrize("scale", [*SCALES, 1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("count", [2, 1000, 5000])
def test_moments_are_those_of_extended_precision(scale: float, offset: float, count: int) -> None:
    generator = np.random.default_rng(0)
    values = (generator.normal(size=(count, 3)) + offset) * scale
    mean, deviation = mean_and_deviation(torch.from_numpy(values))
    exact = values.astype(np.longdouble)
    expected = exact.mean(axis=0)
    spread = np.sqrt(np.square(exact - expected).mean(axis=0))
    # A mean is rounded to float64, and the sum before it m times.
    np.testing.assert_allclose(mean.numpy(), expected.astype(float), rtol=1e-13, atol=1e-12 * scale)
    np.testing.assert_allclose(deviation.numpy(), spread.astype(float), rtol=1e-9)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-12),
    st.integers(1, 3000),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_constant_column_has_no_spread(value: float, count: int, dtype: torch.dtype) -> None:
    column = torch.full((count, 1), value, dtype=dtype)
    fitted = Preprocessing.fit(column, "feature")
    assert fitted.mean == (column[0].item(),)
    assert fitted.std == (1.0,)
    assert not fitted(column, dtype=torch.float64).any()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.floats(1e-12, 1e12),
    st.integers(2, 3000),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 99),
)
def test_a_column_that_varies_by_rounding_has_no_spread(
    value: float, count: int, dtype: type, seed: int
) -> None:
    # The same number by two routes: it comes out an ulp or two away from itself.
    factors = np.random.default_rng(seed).uniform(1, 2, size=(count, 1)).astype(dtype)
    column = dtype(value) * factors / factors
    for std in (
        Preprocessing.fit(torch.from_numpy(column), "feature").std,
        TargetScaling.fit(torch.from_numpy(column)).std,
    ):
        assert std == (1.0,)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_changes_of_an_evenly_spaced_series_have_no_spread(scale: float, offset: float) -> None:
    rows = (np.arange(500) * 0.1 + offset) * scale
    mean, deviation = rows.mean(), rows.std()
    scaled = ((rows - mean) / deviation)[:, None]
    magnitude = np.array([np.abs(rows).max() / deviation])
    for series, largest in ((scaled, magnitude), (rows[:, None], None)):
        changes = Differences.fit(series, 0, 3, magnitude=largest)
        assert changes.input_scale == (1.0,)
        assert changes.scale == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9])
def test_a_small_spread_beside_a_large_offset_is_kept(offset: float) -> None:
    column = offset + 1e-3 * np.random.default_rng(0).normal(size=(1000, 1))
    assert Preprocessing.fit(torch.from_numpy(column), "feature").std == pytest.approx(
        (column.std(),), rel=1e-9
    )


def test_a_spread_beyond_float64_is_refused_and_so_is_one_read_from_a_file() -> None:
    column = torch.tensor([[1.7e308], [-1.7e308], [1.7e308]], dtype=torch.float64)
    fitted = Preprocessing.fit(column, "feature")  # just within
    assert np.isfinite(fitted.std).all()
    for made, key, value in (
        (fitted.to_dict(), "std", [float("inf")]),
        (fitted.to_dict(), "std", [0.0]),
        (fitted.to_dict(), "mean", [float("nan")]),
        (fitted.to_dict(), "mean", [None]),
        (fitted.to_dict(), "divisor", 0.0),
    ):
        with pytest.raises(DataError):
            Preprocessing.from_dict({**made, key: value})
    with pytest.raises(DataError, match="not finite"):
        Preprocessing.fit(torch.tensor([[1.0], [float("inf")]]), "feature")
    for deviation in (0.0, float("nan"), None):
        with pytest.raises(DataError):
            TargetScaling.from_dict({"mean": [0.0], "std": [deviation]})
    with pytest.raises(DataError):
        Differences.from_dict({"input_scale": [0.0], "mean": [0.0], "scale": [1.0]})
