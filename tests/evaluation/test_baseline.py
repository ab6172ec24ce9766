from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
)

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.evaluation.baseline import persistence_metrics
from idl_cli.evaluation.metrics import make_metrics

WALK = 1000 + np.cumsum(np.random.default_rng(0).normal(size=203))
INPUTS = np.stack([WALK[i : i + 3] for i in range(200)])[:, :, None]
TARGETS = WALK[3:203][:, None]


@pytest.mark.parametrize("scaling", [None, TargetScaling((980.0,), (7.0,))])
def test_persistence_is_measured_in_the_unit_of_the_target(scaling: TargetScaling | None) -> None:
    targets = torch.from_numpy(TARGETS)
    part = Split(torch.from_numpy(INPUTS), targets if scaling is None else scaling.scale(targets))
    task = Task(
        "regression", (3, 1), 1, sequence=True, target_scaling=scaling, forecast=Forecast("y", 0, 1)
    )
    repeated = INPUTS[:, -1]
    assert persistence_metrics(part, task) == pytest.approx(
        {
            "r2": r2_score(TARGETS, repeated),
            "mse": mean_squared_error(TARGETS, repeated),
            "mae": mean_absolute_error(TARGETS, repeated),
            "mape": mean_absolute_percentage_error(TARGETS, repeated),
        },
        rel=1e-9,
    )


def test_scaled_outputs_are_measured_in_the_unit_of_the_target() -> None:
    scaling = TargetScaling((980.0,), (7.0,))
    task = Task("regression", (3, 1), 1, sequence=True, target_scaling=scaling)
    predicted = TARGETS + np.random.default_rng(1).normal(size=TARGETS.shape)
    metrics = make_metrics(task)
    for rows in (slice(0, 50), slice(50, 200)):
        metrics.update(
            scaling.scale(torch.from_numpy(predicted[rows])).float(),
            scaling.scale(torch.from_numpy(TARGETS[rows])).float(),
        )
    # Scaled values are rounded to float32, 6e-8 of themselves: about 1e-6 of the errors.
    assert metrics.compute() == pytest.approx(
        {
            "loss": mean_squared_error(TARGETS, predicted),
            "r2": r2_score(TARGETS, predicted),
            "mse": mean_squared_error(TARGETS, predicted),
            "mae": mean_absolute_error(TARGETS, predicted),
            "mape": mean_absolute_percentage_error(TARGETS, predicted),
        },
        rel=1e-5,
    )
