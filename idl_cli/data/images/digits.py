"""The 1,797 scanned digits that come with scikit-learn: 8 × 8 grey images, nothing to download.

The test part of "Optical recognition of handwritten digits" (E. Alpaydin, C. Kaynak, UCI Machine
Learning Repository, 1998); pixels count the dark points of a 4 × 4 cell, 0 to 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from idl_cli.config.arguments import keywords_of
from idl_cli.data.dataset import Dataset
from idl_cli.data.images.image_dataset import image_dataset, image_split
from idl_cli.data.options import DigitsOptions
from idl_cli.data.randomness import Purpose
from idl_cli.data.splits import split_off
from idl_cli.data.task import Task

# The scans come in one part. Which fifth is the test part is fixed once and for all: it does not
# follow the run's seed, so that accuracies of different seeds are measured on the same images.
TEST_FRACTION = 0.2
TEST_SPLIT_SEED = 0


@keywords_of(DigitsOptions, section="dataset")
def digits(
    options: DigitsOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """Load the digits: 1,438 to train on, 359 to test; keys as in ``configs/dataset/digits.yaml``.

    Args:
        options: the keys, each a keyword argument of its own.
        seed: fixes the validation part and the choice of samples, not the test part.
        cache_dir: taken for uniformity; nothing is downloaded.

    Raises:
        ConfigError: a key is out of range, or a number of samples cannot be had.
    """
    scans = load_digits()
    everything = image_split(scans.images.astype(np.uint8)[:, None], scans.target)
    train, test = split_off(
        everything, TEST_FRACTION, purpose=Purpose.TEST_SPLIT, seed=TEST_SPLIT_SEED
    )
    task = Task("classification", (1, 8, 8), 10, tuple(str(digit) for digit in range(10)))
    return image_dataset("digits", (train, test, task), options, seed=seed, divisor=16.0)
