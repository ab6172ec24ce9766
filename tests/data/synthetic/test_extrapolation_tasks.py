from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from idl_cli.data.dataset import Dataset
from idl_cli.data.synthetic.extrapolation import argmax, arithmetic, identity, rolling_mean
from idl_cli.errors import ConfigError

MAKERS: list[Callable[..., Dataset]] = [argmax, identity, rolling_mean, arithmetic]


@pytest.mark.parametrize("make", MAKERS)
def test_numbers_fill_their_ranges_at_every_shift(make: Callable[..., Dataset]) -> None:
    dataset = make(train_samples=500, test_samples=400, train_range=(2.0, 6.0))
    assert len(dataset.train) == 450
    assert dataset.validation is not None
    assert len(dataset.validation) == 50
    assert 2.0 <= dataset.train.inputs.min() < 2.1
    assert 5.9 < dataset.train.inputs.max() <= 6.0
    assert dataset.shifts is not None
    assert dataset.shifts.training == 4.0
    for shift in (1.0, 1e5):
        numbers = dataset.shifts.make(shift).inputs
        assert numbers.shape == (400, 10, 1)
        assert numbers.min() >= 4.0 - shift / 2
        assert numbers.max() <= 4.0 + shift / 2
        assert numbers.max() - numbers.min() > 0.99 * shift


@pytest.mark.parametrize("make", MAKERS)
def test_the_shift_of_the_training_is_the_test_part(make: Callable[..., Dataset]) -> None:
    dataset = make(train_samples=20, test_samples=50)
    assert dataset.shifts is not None
    same = dataset.shifts.make(dataset.shifts.training)
    assert torch.equal(same.inputs, dataset.test.inputs)
    assert torch.equal(same.targets, dataset.test.targets)


@pytest.mark.parametrize("make", MAKERS)
def test_seeds_fix_every_number_and_parts_are_independent(make: Callable[..., Dataset]) -> None:
    one, again, other = (make(train_samples=50, test_samples=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.train.inputs, again.train.inputs)
    assert torch.equal(one.test.inputs, again.test.inputs)
    assert not torch.equal(one.test.inputs, other.test.inputs)
    assert not torch.isin(one.train.inputs, one.test.inputs).any()


def test_targets_follow_their_rules() -> None:
    small = {"train_samples": 20, "test_samples": 30, "length": 7}
    numbers = argmax(**small).test.inputs[:, :, 0].double()
    assert torch.equal(argmax(**small).test.targets, numbers.argmax(dim=1))
    assert torch.equal(identity(**small).test.targets, numbers)
    mean = rolling_mean(**small, window=3).test.targets
    torch.testing.assert_close(mean[:, 0], (numbers[:, 4] + numbers[:, 5] + numbers[:, 6]) / 3)
    first, second = numbers[:, :3].sum(dim=1), numbers[:, 3:].sum(dim=1)
    for operation, expected in (
        ("add", first + second),
        ("subtract", first - second),
        ("multiply", first * second),
    ):
        targets = arithmetic(**small, operation=operation).test.targets
        torch.testing.assert_close(targets[:, 0], expected)


def test_a_test_range_of_its_own() -> None:
    numbers = argmax(train_samples=20, test_samples=200, test_range=(10.0, 20.0)).test.inputs
    assert 10.0 <= numbers.min() < 10.2
    assert 19.8 < numbers.max() <= 20.0


def test_distance_counts_training_extents() -> None:
    shifts = argmax(train_samples=20, test_samples=5).shifts
    assert shifts is not None
    assert [shifts.distance(shift) for shift in (1.0, 2.0, 4.0, 1e5)] == [0.0, 0.0, 1.0, 49_999.0]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [({"train_range": (1.0, 1.0)}, "train_range"), ({"test_range": (2.0, -2.0)}, "test_range")],
)
def test_an_empty_range_is_refused(arguments: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"dataset.{key}="):
        argmax(**arguments)  # type: ignore[arg-type]


def test_a_window_longer_than_the_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset.window=11"):
        rolling_mean(window=11)


def test_one_number_makes_no_operands() -> None:
    with pytest.raises(ConfigError, match=r"dataset.length=1"):
        arithmetic(length=1)
