"""A block of a user's samples, and how samples of several shapes become those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.files.npy_format import Array
from idl_cli.data.tables.exact_floats import exact_floats
from idl_cli.errors import DataError

Channels = Literal["auto", "first", "last"]


@dataclass(frozen=True)
class Rows:
    """Some samples in the order of the file.

    Args:
        names: what each is called: its position, its line, its file, its date.
        values: raw samples (m, *input_shape); zeros where a sample cannot be used.
        problems: why a sample cannot be used, by its position in this block.
    """

    names: Sequence[str]
    values: Tensor
    problems: Mapping[int, str]


def numeric_rows(
    values: Array, names: Sequence[str], shape: tuple[int, ...], channels: Channels, where: str
) -> Rows:
    """Samples of an array as a model takes them; those with NaN or infinities cannot be used.

    Args:
        values: (m, …), any dtype.
        names: of the samples.
        shape: of the model's samples.
        channels: where those of images stand.
        where: the array's name in a message.

    Raises:
        DataError: the samples have another shape, or are no numbers.
    """
    if values.dtype.kind not in "buif":
        raise DataError(f"{where}: entries of type {values.dtype}, where numbers belong")
    if values.dtype.kind in "bu" and values.dtype.itemsize == 1:
        samples = torch.from_numpy(values.astype(np.uint8))
        return Rows(names, in_shape(samples, shape, channels, where), {})
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float64)).reshape(len(values), -1)
    kept = finite.all(axis=1)
    problems = {
        int(row): f"{int((~finite[row]).sum()):,} of its {finite.shape[1]:,} numbers are not finite"
        for row in np.flatnonzero(~kept)
    }
    held = np.where(kept.reshape(-1, *[1] * (values.ndim - 1)), values, 0).astype(values.dtype)
    return Rows(names, in_shape(exact_floats(held, where), shape, channels, where), problems)


def in_shape(values: Tensor, shape: tuple[int, ...], channels: Channels, where: str) -> Tensor:
    """Samples (m, …) in a model's shape: as they are, channels last, without them, or flattened.

    Raises:
        DataError: they have another shape, or one that can be read in two ways.
    """
    found = tuple(values.shape[1:])
    last = (*shape[1:], shape[0]) if len(shape) == 3 else shape
    if channels == "last" and len(found) == 3:
        if found == last:
            return values.permute(0, 3, 1, 2)
    elif found == shape:
        return values
    elif found == last and channels == "auto":
        return values.permute(0, 3, 1, 2)
    if len(shape) == 3 and shape[0] == 1 and found == shape[1:]:
        return values[:, None]
    if prod(found) == prod(shape) and len(found) <= 1:
        if len(shape) == 3 and shape[0] > 1:
            raise DataError(
                f"{where}: {prod(shape)} numbers in a row can be images with their channels first"
                f" or last; give an array of samples of shape {_said(shape)} or {_said(last)}"
            )
        return values.reshape(len(values), *shape)
    raise DataError(
        f"{where}: samples of shape {_said(found)}, where the model takes {_said(shape)}, or as"
        f" many numbers in a row ({prod(shape)})"
    )


def positions(first: int, count: int) -> list[str]:
    """Names of samples that have none: their positions in the file, from 0."""
    return [str(index) for index in range(first, first + count)]


def _said(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


Numbers = npt.NDArray[np.float64]
