from __future__ import annotations

import numpy as np
import pytest
import torch

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.windows import Parts, Windows

SERIES = np.stack([np.arange(30.0), 100 + np.arange(30.0)], axis=1)


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_hold_the_past_and_targets_what_follows(stride: int) -> None:
    windows = Windows(look_back=4, horizon=2, stride=stride, target=1)
    rows = windows.rows(0, 20)
    split = windows.cut(SERIES, rows, None)
    assert split.inputs.shape == (len(rows), 4, 2)
    for sample, row in enumerate(rows):
        assert split.inputs[sample].tolist() == SERIES[row - 4 : row].tolist()
        assert split.targets[sample].tolist() == SERIES[row : row + 2, 1].tolist()


def test_rows_with_gaps_give_the_same_samples_as_the_view() -> None:
    windows = Windows(look_back=4, horizon=1, stride=1)
    every = windows.cut(SERIES, windows.rows(0, 30), None)
    rows = windows.rows(0, 30)[[0, 1, 5, 20]]
    some = windows.cut(SERIES, rows, None)
    assert torch.equal(some.inputs, every.inputs[[0, 1, 5, 20]])
    assert torch.equal(some.targets, every.targets[[0, 1, 5, 20]])


def test_a_view_does_not_copy_the_series() -> None:
    split = Windows(look_back=10, horizon=1, stride=1).cut(SERIES, np.arange(10, 30), None)
    assert split.inputs.data_ptr() == torch.from_numpy(SERIES).data_ptr()


def test_parts_share_no_target_and_use_every_one() -> None:
    windows = Windows(look_back=5, horizon=1, stride=1)
    parts = Parts.by_fractions(30, test_fraction=0.4, validation_fraction=0.25)
    assert parts.bounds() == {"train": (0, 14), "validation": (14, 18), "test": (18, 30)}
    rows = [windows.rows(*bounds) for bounds in parts.bounds().values()]
    # The first five rows have no full window before them.
    assert np.concatenate(rows).tolist() == list(range(5, 30))


def test_without_validation_fraction_there_is_no_validation_part() -> None:
    parts = Parts.by_fractions(10, test_fraction=0.5, validation_fraction=0.0)
    assert parts.bounds() == {"train": (0, 5), "test": (5, 10)}


def test_targets_are_scaled() -> None:
    windows = Windows(look_back=2, horizon=1, stride=1)
    split = windows.cut(SERIES, np.array([2, 3]), TargetScaling((2.0,), (0.5,)))
    assert split.targets.tolist() == [[0.0], [2.0]]
