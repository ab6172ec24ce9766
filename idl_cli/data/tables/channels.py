"""Where the channels of images in arrays stand: this project has them first, many files last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from idl_cli.data.files.array_files import RawPart
from idl_cli.errors import ConfigError

_CHANNELS = (1, 3, 4)  # grey, red-green-blue, and with transparency


def channels_first(
    parts: Mapping[str, RawPart], channels: Literal["auto", "first", "last"]
) -> tuple[dict[str, RawPart], list[str]]:
    """Bring images to (m, channels, height, width).

    Args:
        parts: as read; samples of other than three dimensions have no channels.
        channels: where they stand. ``auto``: last where the last dimension alone is 1, 3 or 4,
            else first.

    Returns:
        The parts, and what was assumed, in sentences.

    Raises:
        ConfigError: both the first and the last dimension could be the channels, or the samples
            are no images and ``channels`` is not ``auto``.
    """
    train = parts["train"]
    shape = train.inputs.shape[1:]
    if len(shape) != 3:
        if channels != "auto":
            raise ConfigError(
                [
                    f"dataset.channels={channels}: the samples of {train.inputs_name} have the"
                    f" shape {shape}, and images with channels have three dimensions; leave it out"
                ]
            )
        return dict(parts), []
    assumed = []
    if channels == "auto":
        channels, doubt = _guess(shape)
        if doubt:
            raise ConfigError(
                [
                    f"dataset.channels: the samples of {train.inputs_name} have the shape {shape},"
                    " of which the first or the last number could be that of the channels; give"
                    " dataset.channels=first or dataset.channels=last"
                ]
            )
        if channels == "last":
            height, width, count = shape
            assumed.append(
                f"samples of shape {shape} are images of {height} x {width} pixels with {count}"
                " channel(s) (dataset.channels=first for the other order)"
            )
    if channels == "first":
        return dict(parts), assumed
    return {
        name: replace(part, inputs=part.inputs.transpose(0, 3, 1, 2))
        if part.inputs.ndim == 4
        else part
        for name, part in parts.items()
    }, assumed


def _guess(shape: tuple[int, ...]) -> tuple[Literal["first", "last"], bool]:
    """Which dimension is that of the channels, and whether it could be the other."""
    first, last = shape[0] in _CHANNELS, shape[-1] in _CHANNELS
    doubt = first and last and not shape[0] == shape[-1] == 1
    return "last" if last and not first else "first", doubt
