"""The 1,797 scanned digits that come with scikit-learn: 8 × 8 grey images, nothing to download.

The test part of "Optical recognition of handwritten digits" (E. Alpaydin, C. Kaynak, UCI Machine
Learning Repository, 1998); pixels count the dark points of a 4 × 4 cell, 0 to 16.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    everything = image_split(*_scans())
    train, test = split_off(
        everything, TEST_FRACTION, purpose=Purpose.TEST_SPLIT, seed=TEST_SPLIT_SEED
    )
    task = Task("classification", (1, 8, 8), 10, tuple(str(digit) for digit in range(10)))
    return image_dataset("digits", (train, test, task), options, seed=seed, divisor=16.0)


def _scans() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, 1, 8, 8) and labels (N,), as ``sklearn.datasets.load_digits`` returns them.

    Read from scikit-learn's file: importing the package, with all of SciPy that it asks for, takes
    as long as importing torch, in every process of every run.
    """
    package = find_spec("sklearn")
    for folder in package.submodule_search_locations or () if package else ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    scans = load_digits()
    return scans.images.astype(np.uint8)[:, None], scans.target
