from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from idl_cli.data.images.digits import digits
from idl_cli.errors import ConfigError


def test_parts_are_the_scans_disjoint_and_complete() -> None:
    dataset = digits()
    assert dataset.validation is not None
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == [1294, 144, 359]
    scans = load_digits()
    expected = {
        (image.astype(np.uint8).tobytes(), int(label))
        for image, label in zip(scans.images, scans.target, strict=True)
    }
    found = [
        (image.numpy().tobytes(), int(label))
        for part in parts
        for image, label in zip(part.inputs, part.targets, strict=True)
    ]
    assert len(found) == 1797
    assert set(found) == expected  # all scans differ, so nothing is drawn twice


def test_they_come_from_scikit_learn_itself_where_its_file_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = digits().train
    monkeypatch.setattr("idl_cli.data.images.digits.find_spec", lambda _: None)
    loaded = digits().train
    assert torch.equal(read.inputs, loaded.inputs)
    assert torch.equal(read.targets, loaded.targets)


def test_parts_are_stratified() -> None:
    dataset = digits()
    everything = torch.from_numpy(load_digits().target).bincount(minlength=10)
    assert dataset.validation is not None
    for part in (dataset.train, dataset.validation, dataset.test):
        share = len(part) / 1797 * everything
        assert (part.targets.bincount(minlength=10) - share).abs().max() < 2


def test_test_part_is_the_same_for_every_seed_and_the_validation_part_is_not() -> None:
    first, second = digits(seed=0), digits(seed=1)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert first.validation is not None
    assert second.validation is not None
    assert not torch.equal(first.validation.inputs, second.validation.inputs)


def test_task_and_raw_samples() -> None:
    dataset = digits()
    assert dataset.task.kind == "classification"
    assert dataset.task.input_shape == (1, 8, 8)
    assert dataset.task.input_dim == 64
    assert dataset.task.output_dim == 10
    assert dataset.train.inputs.dtype == torch.uint8
    inputs = dataset.preprocessing(dataset.train.inputs, dtype=torch.float64)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-12)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-12)


def test_fewer_samples() -> None:
    dataset = digits(train_samples=100, test_samples=50, validation_fraction=0.2)
    assert dataset.validation is not None
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [80, 20, 50]
    assert digits(validation_fraction=0.0).validation is None


def test_more_samples_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"dataset.train_samples=1439: from 1 to 1,438"):
        digits(train_samples=1439)
    with pytest.raises(ConfigError, match=r"dataset.test_samples=400: from 1 to 359"):
        digits(test_samples=400)


def test_validation_part_without_samples() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.validation_fraction=0\.1 of 3 samples"):
        digits(train_samples=3)
