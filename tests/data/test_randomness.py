from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.data.randomness import Purpose, random_permutation, random_words
from idl_cli.errors import ArgumentError


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 50), st.integers(0, 2**64 - 1), st.sampled_from(Purpose))
def test_a_permutation_holds_every_position_once(count: int, seed: int, purpose: Purpose) -> None:
    permutation = random_permutation(count, purpose, seed)
    assert sorted(permutation.tolist()) == list(range(count))
    np.testing.assert_array_equal(permutation, random_permutation(count, purpose, seed))


def test_purposes_and_keys_are_told_apart() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2**32, 0), (0, 2**32)]
    draws = {random_words(4, purpose, *key).tobytes() for purpose in Purpose for key in keys}
    assert len(draws) == len(Purpose) * len(keys)


def test_words_are_those_of_the_published_generator() -> None:
    # First output of PCG64 seeded with SeedSequence([1, 0, 0]); NumPy promises that it stays.
    assert random_words(2, Purpose.ORDER, 0).tolist() == [9441442522235856127, 17532960557476522086]


def test_permutations_are_uniform() -> None:
    counts = np.zeros((4, 4))
    for seed in range(4000):
        counts[np.arange(4), random_permutation(4, Purpose.ORDER, seed)] += 1
    # 4,000 draws of probability 1/4: standard deviation 27.4; five of them either way.
    assert np.abs(counts - 1000).max() < 5 * 27.4


def test_keys_out_of_range_are_refused() -> None:
    for number in (-1, 2**64):
        with pytest.raises(ArgumentError, match=f"{number}"):
            random_words(1, Purpose.ORDER, number)
