"""Reading one image into 8 bits a channel, upright; what that would not show is refused by name."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.errors import DataError

FORMATS: Final = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES: Final = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".webp", ".pgm", ".ppm", ".pbm", ".pnm"}
)
"""What a file is named when it claims to be an image; others are images where they hold one."""

_GREY = frozenset({"1", "L", "LA"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})
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
_TIFF_BITS: Final = 258  # TIFF 6.0, tag BitsPerSample


def is_image(file: Path) -> bool:
    """Whether a file is an image by its suffix, or by what it begins with."""
    if file.suffix.lower() in SUFFIXES:
        return True
    if not file.is_file():
        return False
    try:
        with _opened(file):
            return True
    except _DAMAGE:
        return False


def read_image(file: Path) -> tuple[npt.NDArray[np.uint8], bool]:
    """Read an image as it is shown: palettes looked up, turned as its EXIF orientation says.

    Of the several pictures that cameras keep in one JPEG the first is read.

    Returns:
        (height, width) for a grey image, else (height, width, 3), without transparency; and
        whether a pixel has any.

    Raises:
        DataError: the file is damaged, is animated, or has more than 8 bits a channel.
    """
    refuse_irregular(file)
    try:
        with _opened(file) as image:
            image.verify()  # the checksums of a PNG, which are ignored when it is decoded
        with _opened(file) as image:
            _refuse(file, image)
            # Pillow itself turns a TIFF, and would turn it twice.
            upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
            transparent = upright.has_transparency_data and (
                upright.convert("RGBA").getchannel("A").getextrema()[0] < 255
            )
            return np.asarray(upright.convert("L" if image.mode in _GREY else "RGB")), transparent
    except DataError:
        raise
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{file}: not an intact image ({reason})") from error


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image without the warnings that Pillow gives of damage beside the pixels.

    Opened by its name, an uncompressed TIFF that is to be turned would be mapped into memory with
    height and width exchanged.
    """
    with warnings.catch_warnings(), file.open("rb") as stream:
        warnings.simplefilter("ignore")
        with Image.open(stream, formats=FORMATS) as image:
            yield image


def _refuse(file: Path, image: Image.Image) -> None:
    bits = _bits(file, image)
    if image.mode not in _GREY | _COLOUR or bits > 8:
        found = f"mode {image.mode}" if bits <= 8 else f"{bits} bits"
        raise DataError(f"{file}: pixels of more than 8 bits ({found}); convert it to 8 bits")
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":
        raise DataError(
            f"{file}: holds {pictures} pictures (animated, or several pages); save the one that is"
            " meant as an image of its own"
        )


def _bits(file: Path, image: Image.Image) -> int:
    """Bits a channel in the file: Pillow reads 16-bit colour as 8 bits without a word."""
    if image.format == "PNG":
        with file.open("rb") as stream:
            return stream.read(25)[24]  # PNG specification, 11.2.2 IHDR
    if image.format == "TIFF":
        stored = image.tag_v2.get(_TIFF_BITS, 1)
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    if image.format == "PPM":
        # Netpbm's largest value, which Pillow hands its decoder beside the layout.
        arguments = image.tile[0][3] if image.tile else None
        largest = arguments[1] if isinstance(arguments, tuple) and len(arguments) == 2 else 0
        return int(largest).bit_length() if isinstance(largest, int) else 8
    return 8
