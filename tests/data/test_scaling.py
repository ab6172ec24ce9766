from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.task import Task
from idl_cli.errors import DataError


def test_unscale_undoes_scale_where_the_mean_is_large_beside_the_spread() -> None:
    scaling = TargetScaling((1e9, -3.0), (2.5, 1e-3))
    targets = torch.tensor([[1e9 + 1.0, -3.002], [1e9 - 4.0, -2.9995]], dtype=torch.float64)
    scaled = scaling.scale(targets)
    torch.testing.assert_close(scaled[:, 0], torch.tensor([0.4, -1.6], dtype=torch.float64))
    # Adding a mean of 1e9 rounds to 2⁻²³ ≈ 1.2e-7.
    torch.testing.assert_close(scaling.unscale(scaled), targets, rtol=0, atol=1.2e-7)


def test_predictions_in_single_precision_come_back_in_double() -> None:
    scaling = TargetScaling((0.1,), (3.0,))
    unscaled = scaling.unscale(torch.ones(2, 1))
    assert unscaled.dtype == torch.float64
    assert unscaled.tolist() == [[3.1], [3.1]]


def test_a_forecast_survives_json_with_its_scaling() -> None:
    task = Task(
        "regression",
        (60, 2),
        2,
        sequence=True,
        target_scaling=TargetScaling((0.1, 1 / 3), (2.0, 1e-7)),
        forecast=Forecast("temp", 1, 2),
    )
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_persistence_repeats_the_last_value_of_the_target() -> None:
    inputs = torch.arange(12.0).reshape(2, 3, 2)
    assert Forecast("y", 1, 2).persistence(inputs).tolist() == [[5.0, 5.0], [11.0, 11.0]]


def test_features_of_a_step_of_sequences_images_and_vectors() -> None:
    assert Task("regression", (60, 2), 1, sequence=True).step_features == 2
    assert Task("classification", (3, 8, 5), 2).step_features == 15
    assert Task("regression", (7,), 1).step_features == 1


@settings(derandomize=True, deadline=None, max_examples=60)
@given(power=st.integers(-300, 300), offset=st.sampled_from([0.0, 1.0, 1e6]))
def test_targets_are_taken_where_float64_has_their_squared_errors(
    power: int, offset: float
) -> None:
    targets = (torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None] + offset) * 10.0**power
    if abs(power) < 130:
        errors = TargetScaling.fit(targets).scale(targets)
        assert float(errors.square().mean()) == pytest.approx(1, rel=1e-6)
    elif abs(power) > 145:
        with pytest.raises(DataError, match=r"no squared errors .* choose another unit"):
            TargetScaling.fit(targets)
