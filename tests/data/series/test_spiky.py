from __future__ import annotations

import numpy as np
import pytest
import torch

from idl_cli.data.dataset import Dataset
from idl_cli.data.series.spiky import spiky
from idl_cli.errors import ConfigError


def _series(dataset: Dataset, points: int) -> np.ndarray:
    """The whole series, from the windows of the first rows and all targets."""
    parts = [dataset.train, dataset.validation, dataset.test]
    first = dataset.train.inputs[0, :, 0]
    series = torch.cat([first, *(part.targets[:, 0] for part in parts if part is not None)])
    assert len(series) == points
    return series.numpy()


def test_the_series_is_the_published_one() -> None:
    values = _series(spiky(seed=4), 10_000)
    x = np.linspace(0, 100, 10_000)
    burst = 3.5 * sum(np.sin(f * x) for f in (2, 23, 78, 100))
    in_burst = values == burst
    assert in_burst.sum() == 27 * 107
    noise = (values - np.sin(x))[~in_burst]
    # Of 7,111 normal numbers, mean and deviation are within four of their standard errors.
    assert abs(noise.mean()) < 4 * 0.35 / np.sqrt(7111)
    assert abs(noise.std() - 0.35) < 4 * 0.35 / np.sqrt(2 * 7111)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], in_burst, [0]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    assert (lengths % 107 == 0).all(), "bursts may touch, never overlap"


def test_the_split_is_in_time_without_overlap() -> None:
    dataset = spiky(validation_fraction=0.0)
    assert (len(dataset.train), dataset.validation, len(dataset.test)) == (5940, None, 4000)
    assert dataset.task.input_shape == (60, 1)
    assert torch.equal(dataset.test.inputs[0, -1], dataset.train.targets[-1])
    assert dataset.times is not None
    assert dataset.times.test[0] == pytest.approx(100 * 6000 / 9999)


def test_bursts_are_at_other_places_for_other_seeds() -> None:
    one, other = (_series(spiky(seed=seed), 10_000) for seed in (0, 1))
    assert not np.array_equal(np.abs(one) > 5, np.abs(other) > 5)


def test_a_shift_raises_the_bursts_of_the_test_part_alone() -> None:
    dataset = spiky(shifts=(1.0, 10.0))
    assert dataset.shifts is not None
    plain, raised = (dataset.shifts.make(shift) for shift in (1.0, 10.0))
    assert torch.equal(plain.targets, dataset.test.targets)
    assert torch.equal(plain.inputs, dataset.test.inputs)
    raised_rows = (raised.targets != plain.targets)[:, 0]
    assert 0 < raised_rows.sum() < len(raised_rows)
    torch.testing.assert_close(raised.targets[raised_rows], 10 * plain.targets[raised_rows])
    # The window of the first test point lies in the training part.
    assert torch.equal(raised.inputs[0], plain.inputs[0])


def test_normalised_targets_come_back_in_the_series_unit() -> None:
    plain, scaled = spiky(), spiky(normalize="standard")
    scaling = scaled.task.target_scaling
    assert scaling is not None
    torch.testing.assert_close(scaling.unscale(scaled.test.targets), plain.test.targets)
    assert scaled.shifts is not None
    assert plain.shifts is not None
    torch.testing.assert_close(
        scaling.unscale(scaled.shifts.make(100.0).targets), plain.shifts.make(100.0).targets
    )


def test_too_many_bursts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset.bursts=94 of dataset.burst_points=107"):
        spiky(bursts=94)
