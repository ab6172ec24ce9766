"""What a convolutional state sees: its kernels, and the maps of some images, as figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.models.convolutional.implicit_conv import ImplicitConv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TILE: Final = 0.55  # inches of a kernel's side
_MAP: Final = 0.95  # inches of a feature map's side
_MOST_KERNELS: Final = 64
_MOST_MAPS: Final = 9


def kernel_pictures(model: ImplicitConv) -> Figure:
    """Draw the kernels of B into the finest scale, and how strongly A couples the channels.

    A kernel of three channels is a coloured tile, grey where it is zero; of one channel, red where
    it is positive and blue where it is negative; of other numbers, its mean over the channels. Each
    tile has its own largest weight. Of A the l1 norm of every kernel: a row is all that feeds a
    channel, and sums to κ at most.

    Args:
        model: with at most 64 kernels of B drawn.
    """
    from matplotlib.figure import Figure  # heavy, and only one rank draws

    injection: Tensor = model.get_parameter("B_0")
    kernels = injection.detach().double().cpu()[:_MOST_KERNELS]
    columns = math.ceil(math.sqrt(len(kernels)))
    rows = math.ceil(len(kernels) / columns)
    side = max(3.2, _TILE * rows)
    figure = Figure(figsize=(_TILE * columns + side + 1.2, side), layout="constrained")
    left, right = figure.subfigures(  # type: ignore[misc]  # an array, where there are two
        1, 2, width_ratios=[_TILE * columns, side + 1.2]
    )
    left.suptitle("kernels of B", fontsize=9)
    axes = left.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, kernel in zip(axes, kernels, strict=False):
        _draw_kernel(axis, kernel / kernel.abs().max().clamp(min=torch.finfo(kernel.dtype).tiny))
    norms = kernel_norms(model).numpy()
    axis = right.subplots()
    drawn = axis.imshow(norms, cmap="viridis", vmin=0.0, vmax=float(norms.max()) or 1.0)
    axis.set_xlabel("from channel")
    axis.set_ylabel("into channel")
    for edge in np.cumsum(model.channels)[:-1] - 0.5:
        axis.axhline(edge, color="white", linewidth=0.8)
        axis.axvline(edge, color="white", linewidth=0.8)
    right.colorbar(drawn, ax=axis, shrink=0.8, label="l1 norm of A's kernel")
    return figure


def _draw_kernel(axis: Axes, kernel: Tensor) -> None:
    """Draw a kernel (c, k, k) whose largest weight is 1."""
    if len(kernel) == 3:
        axis.imshow((0.5 + kernel / 2).permute(1, 2, 0).numpy())
    else:
        axis.imshow(kernel.mean(dim=0).numpy(), cmap="RdBu_r", vmin=-1.0, vmax=1.0)


@torch.no_grad()
def kernel_norms(model: ImplicitConv) -> Tensor:
    """Return the l1 norms of A's kernels (channels, channels), float64; zero between groups.

    The channels of all scales follow each other, the finest scale first; row i is all that feeds
    channel i.
    """
    sizes = model.channels
    blocks = [
        [_norms_between(model, into, source) for source in range(len(sizes))]
        for into in range(len(sizes))
    ]
    return torch.cat([torch.cat(row, dim=1) for row in blocks])


def _norms_between(model: ImplicitConv, into: int, source: int) -> Tensor:
    several = len(model.channels) > 1
    kernel: Tensor = getattr(model, f"A_{into}_{source}" if several else "A")
    norms = kernel.detach().double().cpu().abs().sum(dim=(2, 3))
    if into < source:  # the transpose of a strided convolution, stored as that one
        return norms.t()
    if into > source or model.groups == 1:
        return norms
    joined: Tensor = torch.block_diag(*norms.chunk(model.groups))  # type: ignore[no-untyped-call]
    return joined


@torch.no_grad()
def map_pictures(model: ImplicitConv, inputs: Tensor, images: Tensor) -> Figure:
    """Draw images and what the states make of them, the maps that vary most among the images.

    Every map has a scale of its own, dark where it is smallest.

    Args:
        model: in evaluation mode.
        inputs: of the model (m, *input_shape).
        images: the same as they are stored (m, channels, height, width).
    """
    from matplotlib.figure import Figure

    scales = model.maps(inputs)
    share = max(1, _MOST_MAPS // len(scales))
    chosen = [
        (f"scale {level}" if len(scales) > 1 else "map", channel, maps[:, channel].double().cpu())
        for level, maps in enumerate(scales)
        for channel in _most_varied(maps, share)
    ]
    rows, columns = len(images), 1 + len(chosen)
    figure = Figure(figsize=(_MAP * columns, _MAP * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, image in zip(axes, images, strict=True):
        row[0].imshow(_shown(image), cmap="gray")
    for column, (name, channel, maps) in enumerate(chosen, 1):
        axes[0, column].set_title(f"{name}, {channel}", fontsize=7)
        for row, values in zip(axes, maps, strict=True):
            row[column].imshow(values.numpy(), cmap="viridis")
    for axis in axes.flatten():
        axis.set_axis_off()
    return figure


def distinct(targets: Tensor, count: int) -> Tensor:
    """Return the places of ``count`` samples (as many as there are): of as many classes as can be.

    Args:
        targets: classes (m,), or real targets (m, q), which count as one.
        count: at most so many.
    """
    classes = targets if targets.ndim == 1 else targets.new_zeros(len(targets))
    seen: dict[float, int] = {}
    ranks = []
    for each in classes.tolist():
        ranks.append(seen.get(each, 0))
        seen[each] = ranks[-1] + 1
    return torch.tensor(ranks).argsort(stable=True)[:count]


def _most_varied(maps: Tensor, count: int) -> list[int]:
    """Return the channels of maps (m, c, h, w) with the largest variance, in their order."""
    spread = maps.double().transpose(0, 1).flatten(1).var(dim=1, correction=0)
    return sorted(spread.topk(min(count, len(spread))).indices.tolist())


def _shown(image: Tensor) -> npt.NDArray[np.float64]:
    """Return an image (c, h, w) as it is drawn: values from 0 to 1, of one channel or three."""
    values = image.double().cpu()
    low, high = (0.0, 255.0) if image.dtype == torch.uint8 else (values.min(), values.max())
    values = (values - low) / max(float(high - low), torch.finfo(values.dtype).tiny)
    drawn = values.permute(1, 2, 0) if len(values) == 3 else values.mean(dim=0)
    shown: npt.NDArray[np.float64] = drawn.numpy()
    return shown
