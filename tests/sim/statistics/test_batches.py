"""Finite or not, whatever the sum does."""

from __future__ import annotations

import pytest
import torch

from idl_cli.sim.statistics.batches import all_finite

INFINITY = float("inf")


@pytest.mark.parametrize(
    "entries", [[float("nan"), 0.0], [INFINITY, 1.0], [INFINITY, -INFINITY], [1.0, -INFINITY]]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_infinity_are_found(entries: list[float], dtype: torch.dtype) -> None:
    assert not all_finite(torch.tensor(entries, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_sum_that_overflows_is_no_infinity(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    values = torch.full((3, 3), largest, dtype=dtype)
    assert not values.sum().isfinite()
    assert all_finite(values)


def test_integers_and_nothing_are_finite() -> None:
    assert all_finite(torch.arange(3))
    assert all_finite(torch.empty(0, 4))
