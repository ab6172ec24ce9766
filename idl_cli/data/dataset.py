"""A data set in memory: its parts as raw samples, its task, and how samples become inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.data.augmentation import Augmentation
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task


@dataclass(frozen=True)
class Split:
    """Samples of one part, as stored: 8-bit pixels stay 8-bit until a batch is drawn.

    Args:
        inputs: raw samples (m, *input_shape).
        targets: class indices (m,) int64, or real targets (m, q) of a floating dtype.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        assert len(self.inputs) == len(self.targets), "every sample has one target"

    def __len__(self) -> int:
        return len(self.inputs)

    def subset(self, indices: Tensor) -> Split:
        """Return the samples at the given positions, in that order, as a copy."""
        return Split(self.inputs[indices], self.targets[indices])

    def to(self, device: torch.device | str) -> Split:
        """Return the part on a device, e.g. all of it on a GPU with room for the raw samples."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """Everything a run needs to know about its data.

    Args:
        name: the option of the config group ``dataset`` it was made by.
        train: samples to train on; the preprocessing was fitted on these alone.
        validation: samples to choose by (early stopping, best checkpoint), or None.
        test: samples to report on.
        task: what is predicted from what.
        preprocessing: raw samples to model inputs; the same one for all parts and for later use.
        augmentation: random change of raw training samples, or None.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    task: Task
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
