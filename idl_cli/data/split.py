"""The samples of one part of a data set, and the series that windows are cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.scaling import TargetScaling

Series = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Samples of one part, as stored: 8-bit pixels stay 8-bit until a batch is drawn.

    Args:
        inputs: raw samples (m, *input_shape).
        targets: class indices (m,) int64, or real targets (m, q) of a floating dtype, scaled
            where the task says so.
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

    def scaled(self, scaling: TargetScaling) -> Split:
        """Return the part with its real targets, given in their own unit, scaled: float64."""
        return Split(self.inputs, scaling.scale(self.targets))

    def to(self, device: torch.device | str) -> Split:
        """Return the part on a device, e.g. all of it on a GPU with room for the raw samples."""
        return Split(self.inputs.to(device), self.targets.to(device))
