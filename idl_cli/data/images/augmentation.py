"""Random changes of training images that keep their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.data.options import PublishedOptions
from idl_cli.data.randomness import Purpose, random_words


class Augmentation(Protocol):
    """A random change of a batch of raw samples.

    What becomes of a sample is determined by it, the key and its position in the batch alone, so
    that a batch may be changed part by part.
    """

    def __call__(self, inputs: Tensor, key: Sequence[int], *, first: int = 0) -> Tensor:
        """Return changed samples of the same shape and dtype.

        Args:
            inputs: raw samples (b, *input_shape).
            key: (seed, epoch, batch), which fixes every random number.
            first: position of the first of these samples in its batch.
        """
        ...


@dataclass(frozen=True)
class CropFlip:
    """Shift each image by up to ``padding`` pixels and mirror every other one.

    The usual CIFAR augmentation (He et al., "Deep Residual Learning for Image Recognition", CVPR
    2016, section 4.2): pad with zeros, crop at a random position, flip left-right with
    probability 1/2; on raw pixels, so that the border is black before normalisation.

    Args:
        padding: pixels added on every side before the crop.
        flip: whether to mirror.
    """

    padding: int = 4
    flip: bool = True

    def __call__(self, inputs: Tensor, key: Sequence[int], *, first: int = 0) -> Tensor:
        """Return changed images (b, channels, height, width); see ``Augmentation``."""
        batch, _, height, width = inputs.shape
        words = random_words(3 * (first + batch), Purpose.AUGMENTATION, *key)
        words = words.reshape(first + batch, 3)[first:]
        # The remainder of a 64-bit word is uniform to within 2⁻⁶⁰.
        offsets = torch.from_numpy(
            (words[:, :2] % np.uint64(2 * self.padding + 1)).astype(np.int64)
        )
        mirrored = torch.from_numpy(words[:, 2] % np.uint64(2) == 1) & self.flip
        rows = offsets[:, :1] + torch.arange(height)
        columns = torch.arange(width).expand(batch, width)
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + offsets[:, 1:]
        padded = functional.pad(inputs, (self.padding,) * 4)
        device = inputs.device
        # Advanced indices on both sides of the sliced channel axis put that axis last.
        crops = padded[
            torch.arange(batch, device=device)[:, None, None],
            :,
            rows.to(device)[:, :, None],
            columns.to(device)[:, None, :],
        ]
        return crops.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Cutout:
    """Blacken a square of each image, so that no single part is relied upon.

    DeVries and Taylor, arXiv 1708.04552: the square's middle is anywhere in the image, so a part of
    it may lie outside.

    Args:
        side: of the square, in pixels.
    """

    side: int

    def __call__(self, inputs: Tensor, key: Sequence[int], *, first: int = 0) -> Tensor:
        """Return changed images (b, channels, height, width); see ``Augmentation``."""
        batch, _, height, width = inputs.shape
        words = random_words(2 * (first + batch), Purpose.CUTOUT, *key)
        words = words.reshape(first + batch, 2)[first:]
        middles = torch.from_numpy((words % np.array([height, width], np.uint64)).astype(np.int64))
        starts = middles - self.side // 2
        inside = [
            (torch.arange(size) >= start) & (torch.arange(size) < start + self.side)
            for size, start in zip((height, width), starts.T[:, :, None], strict=True)
        ]
        square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return inputs.masked_fill(square.to(inputs.device), 0)


@dataclass(frozen=True)
class InTurn:
    """Several augmentations, one after the other.

    Args:
        parts: what is applied, the first first.
    """

    parts: tuple[Augmentation, ...]

    def __call__(self, inputs: Tensor, key: Sequence[int], *, first: int = 0) -> Tensor:
        """Return changed samples; see ``Augmentation``."""
        for part in self.parts:
            inputs = part(inputs, key, first=first)
        return inputs


def augmentation_of(options: PublishedOptions, usual: CropFlip) -> Augmentation | None:
    """Return what a data set is asked to do to its training images; None for nothing.

    Args:
        options: ``augment``, ``shift`` and ``cutout``.
        usual: what ``augment`` stands for without ``shift``.
    """
    if options.shift is not None:
        usual = replace(usual, padding=options.shift)
    parts: list[Augmentation] = [usual] if options.augment else []
    if options.cutout:
        parts.append(Cutout(options.cutout))
    return InTurn(tuple(parts)) if len(parts) > 1 else next(iter(parts), None)
