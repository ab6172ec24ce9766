"""Random numbers as a pure function of integers: no generator object, hence no position to save.

The bits come from PCG64 seeded through ``numpy.random.SeedSequence``. Unlike the methods of
``numpy.random.Generator``, both have a stream that NumPy promises never to change (NEP 19), so a
split or an order drawn today is the one drawn by a later version, on any machine.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from idl_cli.errors import ArgumentError


class Purpose(IntEnum):
    """What numbers are drawn for: draws of one seed for two purposes are independent.

    Never 0, which ``SeedSequence`` cannot tell from an absent word.
    """

    ORDER = 1
    AUGMENTATION = 2
    TRAIN_SAMPLES = 3
    TEST_SAMPLES = 4
    VALIDATION = 5
    TEST_SPLIT = 6
    TRAIN_NUMBERS = 7
    TEST_NUMBERS = 8
    BURSTS = 9
    NOISE = 10
    RANK = 11
    CUTOUT = 12
    MIXING = 13
    PARTNERS = 14


def random_words(count: int, purpose: Purpose, *key: int) -> npt.NDArray[np.uint64]:
    """Draw ``count`` independent uniform 64-bit words, the same ones for the same arguments.

    Args:
        count: how many.
        purpose: separates independent uses of one key.
        key: integers such as (seed, epoch, batch), each below 2⁶⁴; one purpose is always used
            with keys of one length.

    Returns:
        Array (count,), uint64.

    Raises:
        ArgumentError: an integer of the key is negative or too large.
    """
    if not all(0 <= number < 2**64 for number in key):
        raise ArgumentError(f"a seed or position of {key} is not an integer from 0 to 2**64 - 1")
    # Two words each: SeedSequence writes 2³² and (0, 1) the same way.
    halves = [half for number in key for half in (number & 0xFFFFFFFF, number >> 32)]
    sequence = np.random.SeedSequence([int(purpose), *halves])
    words: npt.NDArray[np.uint64] = np.random.PCG64(sequence).random_raw(count)
    return words


def random_permutation(count: int, purpose: Purpose, *key: int) -> npt.NDArray[np.int64]:
    """Draw a uniform permutation of 0 … count-1, the same one for the same arguments.

    The order of independent 64-bit words; ties, which are resolved by position, have a
    probability below count²/2⁶⁵.
    """
    return np.argsort(random_words(count, purpose, *key), kind="stable").astype(np.int64)
