"""What the data sets of images share: their parts, and how they become a ``Dataset``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from idl_cli.data.assembly import assemble
from idl_cli.data.dataset import Dataset
from idl_cli.data.images.augmentation import Augmentation
from idl_cli.data.options import ImageOptions
from idl_cli.data.split import Split
from idl_cli.data.task import Task


def image_split(images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> Split:
    """Make a part of 8-bit images (m, channels, height, width) and their class indices (m,)."""
    assert images.dtype == np.uint8
    assert images.ndim == 4
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def image_dataset(
    name: str,
    published: tuple[Split, Split, Task],
    options: ImageOptions,
    *,
    seed: int,
    divisor: float = 255.0,
    augmentation: Augmentation | None = None,
) -> Dataset:
    """Choose samples of the published training and test part and fit the normalisation.

    Arguments as of ``assemble``, which raises the errors.
    """
    train, test, task = published
    return assemble(
        name,
        train,
        test,
        task,
        seed=seed,
        normalize=options.normalize,
        divisor=divisor,
        train_samples=options.train_samples,
        test_samples=options.test_samples,
        validation_fraction=options.validation_fraction,
        augmentation=augmentation,
    )
