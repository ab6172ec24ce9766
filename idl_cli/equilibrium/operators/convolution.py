"""A convolution with zero padding: its adjoint is the transposed convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from idl_cli.equilibrium.operators.base import Operator
from idl_cli.errors import ShapeError


@dataclass(frozen=True)
class ConvolutionLayout:
    """How a flat row of values is an image, and how the kernel moves over it.

    A row holds the image pixel by pixel, (height, width, channels): the order in which convolutions
    are fastest, by up to 2 on a CPU.

    Args:
        channels: of the input image.
        height: of the input image, in pixels.
        width: of the input image, in pixels.
        stride: pixels from one place of the kernel to the next.
        padding: rows and columns of zeros around the image; (k − 1)/2 keeps its size at stride 1.
        groups: parts of the channels that do not see each other.
    """

    channels: int
    height: int
    width: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def output_size(self, kernel: int) -> tuple[int, int]:
        """Return height and width of the output image of a kernel (..., kernel, kernel)."""
        room = 2 * self.padding - kernel
        return (
            (self.height + room) // self.stride + 1,
            (self.width + room) // self.stride + 1,
        )


class ConvolutionOperator(Operator):
    """A convolution of images, each a row of (height, width, channels) values.

    Away from the border a row of A holds an output channel's kernel, so ‖A‖∞ is the largest l1 norm
    of an output channel's kernel where the image is at least as large as the kernel.

    Args:
        kernel: (c_out, c_in/groups, k, k).
        layout: of the input, and how the kernel moves.

    Raises:
        ShapeError: the kernel does not fit the layout.
    """

    def __init__(self, kernel: Tensor, layout: ConvolutionLayout) -> None:
        expected = f"expected (c_out, {layout.channels // layout.groups}, k, k)"
        if (
            kernel.dim() != 4
            or kernel.shape[1] * layout.groups != layout.channels
            or kernel.shape[0] % layout.groups
            or kernel.shape[2] != kernel.shape[3]
        ):
            raise ShapeError(
                f"the kernel has shape {tuple(kernel.shape)}; {expected}, c_out a multiple of "
                f"groups={layout.groups}."
            )
        if min(layout.output_size(kernel.shape[2])) < 1:
            raise ShapeError(
                f"a kernel of {kernel.shape[2]} pixels does not fit an image of {layout.height} x "
                f"{layout.width} with padding={layout.padding}."
            )
        self.factors = (kernel,)
        self._kernel = kernel.contiguous(memory_format=torch.channels_last)
        self._layout = layout
        self._input = (layout.height, layout.width, layout.channels)
        self._output = (*layout.output_size(kernel.shape[2]), kernel.shape[0])
        reached = [(size - 1) * layout.stride - 2 * layout.padding for size in self._output[:2]]
        # What the stride leaves over at the lower and right border.
        self._rest = (
            layout.height - reached[0] - kernel.shape[2],
            layout.width - reached[1] - kernel.shape[2],
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A: values of an output and of an input image."""
        return prod(self._output), prod(self._input)

    @property
    def multiplications(self) -> int:
        """How many a product with one sample takes: by the kernel for each pixel of an output."""
        height, width, _ = self._output
        return self._kernel.numel() * height * width

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes a convolution of this layout of another kernel."""
        return partial(ConvolutionOperator, layout=self._layout)

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        layout = self._layout
        image = functional.conv2d(
            maps_of(x, self._input),
            self._kernel,
            stride=layout.stride,
            padding=layout.padding,
            groups=layout.groups,
        )
        return torch.add(rows_of(image), offset, out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        layout = self._layout
        image = functional.conv_transpose2d(
            maps_of(v, self._output),
            self._kernel,
            stride=layout.stride,
            padding=layout.padding,
            output_padding=self._rest,
            groups=layout.groups,
        )
        return torch.add(rows_of(image), offset, out=out)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return the kernel's gradient."""
        if not needed[0]:
            return (None,)
        layout = self._layout
        gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            maps_of(x, self._input),
            self._kernel.shape,
            maps_of(v, self._output),
            stride=layout.stride,
            padding=layout.padding,
            groups=layout.groups,
        )
        return (gradient,)


def maps_of(rows: Tensor, image: Sequence[int]) -> Tensor:
    """Return rows (m, height·width·channels) as maps (m, channels, height, width), copying none.

    Args:
        rows: images pixel by pixel.
        image: (height, width, channels).
    """
    return rows.reshape(-1, *image).permute(0, 3, 1, 2)


def rows_of(maps: Tensor) -> Tensor:
    """Return maps (m, channels, height, width) as rows, undoing ``maps_of``."""
    return maps.permute(0, 2, 3, 1).flatten(1)
