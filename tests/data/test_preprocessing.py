from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from idl_cli.data.preprocessing import Preprocessing
from idl_cli.errors import DataError, ShapeError

finite = st.floats(-1e6, 1e6, width=32)
samples = np_st.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=finite)


@settings(derandomize=True, deadline=None)
@given(
    samples,
    st.sampled_from(["channel", "feature", "none"]),
    st.sampled_from([1.0, 255.0]),
)
def test_json_gives_back_the_same_map_bit_by_bit(
    array: np.ndarray, normalize: Literal["channel", "feature", "none"], divisor: float
) -> None:
    inputs = torch.from_numpy(array)
    fitted = Preprocessing.fit(inputs, normalize, divisor=divisor)
    read = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert read == fitted
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(read(inputs, dtype=dtype), fitted(inputs, dtype=dtype))


@settings(derandomize=True, deadline=None)
@given(samples)
def test_features_have_mean_zero_and_deviation_one(array: np.ndarray) -> None:
    inputs = torch.from_numpy(array)
    result = Preprocessing.fit(inputs, "feature")(inputs, dtype=torch.float64)
    spread = inputs.double().std(dim=0, correction=0)
    # A mean of entries up to 1e6 is exact to 1e-10; divided by the deviation it can show.
    varies = spread > 1e-3
    if varies.any():
        assert result[:, varies].mean(dim=0).abs().max() < 1e-6
        assert (result[:, varies].std(dim=0, correction=0) - 1).abs().max() < 1e-6


def test_statistics_against_numpy_beyond_one_chunk() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 2), dtype=np.uint8)
    unit = array / 255.0
    channel = Preprocessing.fit(torch.from_numpy(array), "channel", divisor=255.0)
    # Sums of 40,000 float64 terms in another order: round-off is below 1e-13.
    np.testing.assert_allclose(channel.mean, unit.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(channel.std, unit.std(axis=(0, 2, 3)), rtol=1e-13)
    assert channel.statistics_shape == (3, 1, 1)
    feature = Preprocessing.fit(torch.from_numpy(array), "feature", divisor=255.0)
    np.testing.assert_allclose(feature.mean, unit.mean(axis=0).ravel(), rtol=1e-13)
    np.testing.assert_allclose(feature.std, unit.std(axis=0).ravel(), rtol=1e-13)
    result = channel(torch.from_numpy(array), dtype=torch.float64).numpy()
    expected = (unit - unit.mean(axis=(0, 2, 3), keepdims=True)) / unit.std(
        axis=(0, 2, 3), keepdims=True
    )
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)


def test_deviation_of_large_values_keeps_its_digits() -> None:
    # E[x²] - E[x]² would give 0 or NaN here: the spread is 1e-8 of the mean.
    inputs = torch.tensor([[1e8], [1e8 + 1], [1e8 + 2]], dtype=torch.float64)
    fitted = Preprocessing.fit(inputs, "feature")
    assert fitted.mean == (1e8 + 1,)
    assert fitted.std[0] == pytest.approx((2 / 3) ** 0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 8, 8), (3, 1, 1)),
        ((1, 8, 8), (1, 1, 1)),
        ((8, 8, 3), (1, 1, 3)),
        ((3, 8, 3), (3, 1, 1)),
        ((8, 8), (1, 1)),
        ((8,), (1,)),
    ],
)
def test_which_axis_is_the_channel(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    fitted = Preprocessing.fit(torch.rand(5, *shape), "channel")
    assert fitted.statistics_shape == expected
    assert fitted(torch.rand(2, *shape)).shape == (2, *shape)


def test_an_entry_that_never_varies_becomes_zero_and_keeps_its_unit() -> None:
    fitted = Preprocessing.fit(torch.tensor([[5.0, 1.0], [5.0, 3.0]]), "feature")
    assert fitted.std == (1.0, 1.0)
    assert fitted(torch.tensor([[5.0, 1.0], [7.0, 3.0]])).tolist() == [[0.0, -1.0], [2.0, 1.0]]


def test_none_only_divides() -> None:
    fitted = Preprocessing.fit(torch.zeros(1, 3, dtype=torch.uint8), "none", divisor=255.0)
    raw = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert fitted(raw, dtype=torch.float64).tolist() == [[0.0, 51 / 255, 1.0]]
    assert (fitted.mean, fitted.std) == ((), ())


def test_dtype_of_the_result() -> None:
    raw = torch.zeros(2, 3, dtype=torch.uint8)
    fitted = Preprocessing.fit(raw, "channel")
    assert fitted(raw).dtype == torch.float32
    assert fitted(raw, dtype=torch.float64).dtype == torch.float64


def test_other_samples_are_refused() -> None:
    fitted = Preprocessing.fit(torch.zeros(2, 3), "none")
    with pytest.raises(ShapeError, match=r"shape \(4,\).*fitted on samples of shape \(3,\)"):
        fitted(torch.zeros(2, 4))


def test_no_samples() -> None:
    with pytest.raises(DataError, match="no samples"):
        Preprocessing.fit(torch.zeros(0, 3), "feature")


GOOD: Mapping[str, object] = Preprocessing.fit(torch.rand(4, 2), "feature").to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"normalize": "whiten"},
        {"mean": [0.0]},
        {"std": None},
        {"divisor": "x"},
        {"input_shape": 3},
        {"normalize": "none"},
    ],
)
def test_what_is_no_preprocessing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not a preprocessing"):
        Preprocessing.from_dict({**GOOD, **change})
    with pytest.raises(DataError, match="not a preprocessing"):
        Preprocessing.from_dict({})
