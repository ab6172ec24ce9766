"""Samples of an image, or of a folder of images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from idl_cli.data.files.image_file import is_image, read_image
from idl_cli.data.files.npy_format import Array
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning
from idl_cli.export.reading.rows import Rows


def rows_of_images(path: Path, shape: tuple[int, ...], block: int) -> Iterator[Rows]:
    """Samples of an image, or of all images below a folder, in order of their paths.

    An image that cannot be read, or has another size or more colours than the model takes, cannot
    be used; a file that is no image is named in a warning.

    Args:
        path: the image or the folder.
        shape: of the model's samples: (channels, height, width) or (height, width).
        block: images read at a time.

    Raises:
        ConfigError: the model takes no images.
        DataError: there is no image.
    """
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        taken = " × ".join(map(str, shape))
        raise ConfigError([f"input={path}: the model takes samples of shape {taken}, no images"])
    passed_over: list[str] = []
    files = iter([path] if path.is_file() else _images(path, passed_over))
    found = 0
    while chunk := list(islice(files, block)):
        found += len(chunk)
        yield _read(chunk, path, shape)
    if passed_over:
        named = f"{', '.join(passed_over[:3])}{', …' if len(passed_over) > 3 else ''}"
        warnings.warn(
            f"{path}: {len(passed_over):,} of its files are no images and not read ({named})",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    if not found:
        raise DataError(f"{path}: holds no images")


def _images(folder: Path, passed_over: list[str]) -> Iterable[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(name for name in names if name[0] != "."):
            file = Path(root) / name
            if is_image(file):
                yield file
            else:
                passed_over.append(str(file.relative_to(folder)))


def _read(files: list[Path], root: Path, shape: tuple[int, ...]) -> Rows:
    values = torch.zeros(len(files), *shape, dtype=torch.uint8)
    names, problems = [], {}
    for index, file in enumerate(files):
        names.append(str(file.relative_to(root)) if file != root else file.name)
        try:
            values[index] = torch.from_numpy(_fitted(read_image(file), file, shape))
        except DataError as error:
            problems[index] = str(error).removeprefix(f"{file}: ")
    return Rows(names, values, problems)


def _fitted(read: tuple[Array, bool], file: Path, shape: tuple[int, ...]) -> Array:
    pixels, transparent = read
    height, width = shape[-2:]
    if pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]} × {pixels.shape[0]}"
        raise DataError(f"{file}: {found} pixels, where the model takes {width} × {height}")
    if transparent:
        raise DataError(f"{file}: has transparency; save it without")
    colour = len(shape) == 3 and shape[0] == 3
    if colour and pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if not colour and pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise DataError(f"{file}: a colour image, where the model takes grey ones")
        pixels = pixels[..., 0]
    return np.array(pixels.transpose(2, 0, 1) if colour else pixels, order="C").reshape(shape)
