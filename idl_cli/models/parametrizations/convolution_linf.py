"""‖A‖∞ ≤ κ for convolutions within and between scales.

The row of a pixel of an output channel holds that channel's kernels, of all scales that feed it,
less what padding cuts off. So ‖A‖∞ is the largest l1 norm of a channel's kernels together, and each
channel's are projected on the l1 ball as one. From a coarser scale to a finer one goes the
transpose of a strided convolution, of whose kernel a pixel sees a part: there it is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_
from idl_cli.equilibrium.operators import (
    BlockOperator,
    ConvolutionLayout,
    ConvolutionOperator,
    Operator,
    TransposedOperator,
)
from idl_cli.errors import ArgumentError
from idl_cli.models.parametrizations.base import Parameters, Parametrization


@dataclass(frozen=True)
class Scale:
    """The states of one scale: images of so many channels, height and width."""

    channels: int
    height: int
    width: int

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels: how a row of states holds an image, pixel by pixel."""
        return self.height, self.width, self.channels

    @property
    def states(self) -> int:
        """Number of states."""
        return prod(self.image)


class ConvolutionLinf(Parametrization):
    """Kernels of an A with ‖A‖∞ ≤ κ on images of one or more scales.

    Of one scale the parameter is ``A`` (c, c/groups, k, k); of several ``A_i_j``, from scale j into
    scale i: (c_i, c_j, k, k), or (c_j, c_i, k, k) where scale i is the finer one. States are the
    images of all scales side by side in one row.

    Args:
        scales: the finest first; each as large as the one before divided by a stride, rounded up.
        kernel_size: k, odd.
        kappa: κ.
        groups: parts of the channels of a scale that do not see each other.

    Raises:
        ArgumentError: the scales do not follow from each other, or k is even.
    """

    bounded = True

    def __init__(
        self, scales: Sequence[Scale], kernel_size: int, kappa: float, *, groups: int = 1
    ) -> None:
        if kernel_size % 2 == 0:
            raise ArgumentError(f"kernel_size={kernel_size} must be odd, such as 3 or 5.")
        uneven = [scale.channels for scale in scales if scale.channels % groups]
        if uneven:
            raise ArgumentError(
                f"groups={groups} must divide the channels of a scale, {uneven[0]}."
            )
        self._scales = tuple(scales)
        self._kernel = kernel_size
        self._kappa = kappa
        self._groups = groups
        every = range(len(scales))
        self._strides = {
            (i, j): _stride(scales[j], scales[i]) for i in every for j in every if i >= j
        }
        self.shapes = {self._name(i, j): self._shape(i, j) for i in every for j in every}

    def _name(self, into: int, source: int) -> str:
        return "A" if len(self._scales) == 1 else f"A_{into}_{source}"

    def _shape(self, into: int, source: int) -> tuple[int, int, int, int]:
        coarse, fine = max(into, source), min(into, source)
        groups = self._groups if coarse == fine else 1
        channels = self._scales[fine].channels // groups
        return self._scales[coarse].channels, channels, self._kernel, self._kernel

    @torch.no_grad()
    def reset(self, parameters: Parameters) -> None:
        """Draw the kernels uniformly, each incoming scale alike."""
        for into in range(len(self._scales)):
            entries = self._rows(parameters, into).shape[1]
            for source in range(len(self._scales)):
                bound = self._kappa / entries
                parameters[self._name(into, source)].uniform_(-bound, bound)
        self.project_(parameters)

    @torch.no_grad()
    def project_(self, parameters: Parameters) -> None:
        """Project each output channel's stored kernels."""
        for into in range(len(self._scales)):
            rows = project_rows_l1_(self._rows(parameters, into), self._kappa)
            for source, kernel in enumerate(self._kernels(rows, into)):
                parameters[self._name(into, source)].copy_(kernel)

    def operator(self, parameters: Parameters) -> Operator:
        """Return the convolutions of the projected kernels."""
        grid = []
        for into in range(len(self._scales)):
            rows = project_rows_l1(self._rows(parameters, into), self._kappa)
            kernels = self._kernels(rows, into)
            grid.append([self._block(kernel, into, j) for j, kernel in enumerate(kernels)])
        return grid[0][0] if len(grid) == 1 else BlockOperator(grid)

    def _rows(self, parameters: Parameters, into: int) -> Tensor:
        """All that feeds each channel of a scale, one channel a row."""
        kernels = []
        for source in range(len(self._scales)):
            kernel = parameters[self._name(into, source)]
            kernels.append((kernel.transpose(0, 1) if into < source else kernel).flatten(1))
        return torch.cat(kernels, dim=1)

    def _kernels(self, rows: Tensor, into: int) -> list[Tensor]:
        """Undo ``_rows``."""
        shapes = [self._shape(into, source) for source in range(len(self._scales))]
        turned = [
            (shape[1], shape[0], *shape[2:]) if into < source else shape
            for source, shape in enumerate(shapes)
        ]
        parts = rows.split_with_sizes([prod(shape[1:]) for shape in turned], dim=1)
        kernels = [part.reshape(shape) for part, shape in zip(parts, turned, strict=True)]
        return [
            kernel.transpose(0, 1) if into < source else kernel
            for source, kernel in enumerate(kernels)
        ]

    def _block(self, kernel: Tensor, into: int, source: int) -> Operator:
        coarse, fine = max(into, source), min(into, source)
        scale = self._scales[fine]
        layout = ConvolutionLayout(
            scale.channels,
            scale.height,
            scale.width,
            stride=self._strides[coarse, fine],
            padding=self._kernel // 2,
            groups=self._groups if coarse == fine else 1,
        )
        operator = ConvolutionOperator(kernel, layout)
        return TransposedOperator(operator) if into < source else operator


def _stride(fine: Scale, coarse: Scale) -> int:
    """Return the stride that leads from one scale to the other."""
    for stride in range(1, max(fine.height, fine.width) + 1):
        reached = (math.ceil(fine.height / stride), math.ceil(fine.width / stride))
        if reached == (coarse.height, coarse.width):
            return stride
    raise ArgumentError(
        f"no stride leads from images of {fine.height} x {fine.width} to {coarse.height} x "
        f"{coarse.width}: give the finest scale first, and divide both sides by one number."
    )
