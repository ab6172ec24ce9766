"""Uniform and normal numbers as pure functions of integers, for data that are generated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from idl_cli.data.randomness import Purpose, random_words

Numbers = npt.NDArray[np.float64]


def uniform(count: int, low: float, high: float, purpose: Purpose, *key: int) -> Numbers:
    """Draw numbers uniform in [low, high]; see ``random_words`` for purpose and key.

    Returns:
        Array (count,), float64: low + (high - low)·v with v a multiple of 2⁻⁵³ in (0, 1).
    """
    return low + (high - low) * _open_unit(count, purpose, *key)


def normal(count: int, deviation: float, purpose: Purpose, *key: int) -> Numbers:
    """Draw normal numbers of mean 0, by inverting the distribution function."""
    quantiles: Numbers = ndtri(_open_unit(count, purpose, *key))
    return deviation * quantiles


def _open_unit(count: int, purpose: Purpose, *key: int) -> Numbers:
    # The middles of 2⁵² equal cells: never 0 or 1, symmetric about one half.
    words = random_words(count, purpose, *key) >> np.uint64(12)
    cells: Numbers = (words.astype(np.float64) + 0.5) * 2.0**-52
    return cells
