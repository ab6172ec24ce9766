"""Whether two processes hold the same data: whole numbers to the bit, real ones to rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idl_cli import registry
from idl_cli.data.dataset import Dataset
from idl_cli.data.fingerprint import fingerprint
from idl_cli.data.split import Split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    made: Dataset = registry.build("dataset", {"name": "digits"}, seed=0)
    return made


def _with(dataset: Dataset, inputs: Tensor) -> Dataset:
    return replace(dataset, train=Split(inputs, dataset.train.targets))


def _same(first: Dataset, second: Dataset) -> bool:
    return fingerprint(first).is_of_same_data(fingerprint(second))


def test_the_same_data_are_the_same(digits: Dataset) -> None:
    assert _same(digits, digits)


def test_one_pixel_is_enough_where_numbers_are_whole(digits: Dataset) -> None:
    pixels = digits.train.inputs.to(torch.uint8)
    other = pixels.clone()
    other.view(-1)[700] += 1
    assert not _same(_with(digits, pixels), _with(digits, other))


def test_classes_count_too(digits: Dataset) -> None:
    targets = digits.train.targets.roll(1)
    assert not _same(digits, replace(digits, train=Split(digits.train.inputs, targets)))


def test_real_numbers_may_differ_by_rounding_alone(digits: Dataset) -> None:
    real = digits.train.inputs.double() / 3
    assert _same(_with(digits, real), _with(digits, real * (1 + 1e-7)))
    assert not _same(_with(digits, real), _with(digits, real * 1.01))
    assert not _same(_with(digits, real), _with(digits, real.flip(0)))
    assert not _same(_with(digits, real), _with(digits, real.flip(-1)))


def test_missing_values_are_no_difference_where_all_miss_them(digits: Dataset) -> None:
    missing = digits.train.inputs.double()
    missing[3] = torch.nan
    assert _same(_with(digits, missing), _with(digits, missing.clone()))
    assert not _same(_with(digits, missing), _with(digits, digits.train.inputs.double()))


def test_parts_count_by_their_samples(digits: Dataset) -> None:
    assert not _same(digits, replace(digits, validation=None))
