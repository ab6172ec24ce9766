"""Reading a folder of images in which each class has its own folder."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from idl_cli.data.array_files import PARTS, RawPart
from idl_cli.data.bounds import refuse_irregular
from idl_cli.errors import DataError

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
)
_GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})

_DAMAGE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow reports damage with, depending on the format."""


def read_image_folder(folder: Path) -> dict[str, RawPart]:
    """Read ``folder/class/image``, or ``folder/train/class/image`` and ``folder/test/class/image``.

    Images keep 8 bits a channel: one channel when all of them are grey, else red, green, blue
    (palettes are looked up, transparency is dropped). All must have the same size.

    Returns:
        Parts by name (``train``, and ``validation`` and ``test`` where there are such folders);
        inputs are (m, channels, height, width) uint8, targets the class names as text.

    Raises:
        DataError: there are no classes or a class has no images, or an image cannot be read or
            has another size than the first.
    """
    if (folder / "train").is_dir():
        parts = [part for part in PARTS if (folder / part).is_dir()]
        read = {part: _read_classes(folder / part) for part in parts}
    else:
        read = {"train": _read_classes(folder)}
    grey = all(image.ndim == 2 for images, _ in read.values() for image in images)
    return {
        part: RawPart(_stack(images, grey), np.array(names), str(folder), str(folder))
        for part, (images, names) in read.items()
    }


def _read_classes(folder: Path) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if not classes:
        raise DataError(
            f"{folder}: has no folders; images are looked for as {folder}/CLASS/IMAGE,"
            f" or as {folder}/train/CLASS/IMAGE and {folder}/test/CLASS/IMAGE"
        )
    images: list[npt.NDArray[np.uint8]] = []
    names: list[str] = []
    first: Path | None = None
    for path in classes:
        if not path.name.isprintable():
            raise DataError(
                f"{folder}: the class {path.name!r} has characters in its name that cannot be"
                " printed; rename the folder"
            )
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise DataError(
                f"{path}: the folder of a class has no images ({', '.join(sorted(_SUFFIXES))})"
            )
        for file in files:
            image = _read_image(file)
            first = first or file
            if images and image.shape[:2] != images[0].shape[:2]:
                raise DataError(
                    f"{file}: {image.shape[1]} x {image.shape[0]} pixels, but {first} has"
                    f" {images[0].shape[1]} x {images[0].shape[0]}; all images need one size"
                )
            images.append(image)
            names.append(path.name)
    return images, names


def _read_image(file: Path) -> npt.NDArray[np.uint8]:
    """Return (height, width) for a grey image, else (height, width, 3)."""
    refuse_irregular(file)
    try:
        with Image.open(file) as image:
            image.verify()  # the checksums of a PNG, which are ignored when it is decoded
        with Image.open(file) as image:
            if image.mode not in _GREY | _COLOUR:
                raise DataError(
                    f"{file}: pixels of more than 8 bits (mode {image.mode}); convert it to 8 bits"
                )
            return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
    except DataError:
        raise
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{file}: not an intact image ({reason})") from error


def _stack(images: list[npt.NDArray[np.uint8]], grey: bool) -> npt.NDArray[np.uint8]:
    if grey:
        return np.stack(images)[:, None]
    colour = [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images]
    return np.ascontiguousarray(np.stack(colour).transpose(0, 3, 1, 2))
