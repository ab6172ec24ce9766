from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.data.randomness import Purpose
from idl_cli.data.split import Split
from idl_cli.data.splits import choose, split_off, take_samples
from idl_cli.errors import ConfigError


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_every_class_gets_its_share_to_within_one_sample(
    labels: list[int], data: st.DataObject
) -> None:
    targets = torch.tensor(labels)
    count = data.draw(st.integers(0, len(labels)))
    chosen = choose(targets, count, purpose=Purpose.VALIDATION, seed=data.draw(st.integers(0, 3)))
    assert len(chosen) == count
    assert torch.equal(chosen, chosen.unique())  # ascending, none twice
    sizes = targets.bincount(minlength=5).numpy()
    taken = targets[chosen].bincount(minlength=5).numpy()
    assert np.abs(taken - sizes * count / len(labels)).max() < 1


def test_choice_is_random_within_a_class_and_fixed_by_the_seed() -> None:
    targets = torch.arange(200) % 2
    first = choose(targets, 50, purpose=Purpose.VALIDATION, seed=0)
    assert torch.equal(first, choose(targets, 50, purpose=Purpose.VALIDATION, seed=0))
    assert not torch.equal(first, choose(targets, 50, purpose=Purpose.VALIDATION, seed=1))
    assert not torch.equal(first, choose(targets, 50, purpose=Purpose.TEST_SAMPLES, seed=0))


@settings(derandomize=True, deadline=None)
@given(st.integers(2, 40), st.floats(0, 1), st.booleans())
def test_parts_are_disjoint_and_exhaustive(samples: int, fraction: float, real: bool) -> None:
    targets = torch.arange(samples)[:, None].double() if real else torch.arange(samples) % 3
    split = Split(torch.arange(samples), targets)
    rest, part = split_off(split, fraction, purpose=Purpose.VALIDATION, seed=0)
    assert len(part) == round(fraction * samples)
    both = torch.cat([rest.inputs, part.inputs])
    assert both.sort().values.tolist() == list(range(samples))
    assert torch.equal(targets[part.inputs], part.targets)


def test_number_of_samples() -> None:
    split = Split(torch.arange(10), torch.arange(10) % 2)
    taken = take_samples(split, 4, purpose=Purpose.TRAIN_SAMPLES, seed=0, key="train_samples")
    assert taken.targets.bincount().tolist() == [2, 2]
    everything = take_samples(split, None, purpose=Purpose.TRAIN_SAMPLES, seed=0, key="")
    assert everything is split
    for count in (0, 11):
        with pytest.raises(ConfigError, match=rf"train_samples={count}: from 1 to 10"):
            take_samples(split, count, purpose=Purpose.TRAIN_SAMPLES, seed=0, key="train_samples")
