"""The IDX format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist/, "FILE FORMATS").

Big-endian: two zero bytes, one byte for the type of an entry, one for the number of dimensions,
a 32-bit size for each dimension, then the entries in row-major order, and nothing after them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from idl_cli.data.files.bounds import read_at_most, refuse_irregular
from idl_cli.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES: Final = {
    0x08: ">u1",
    0x09: ">i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}


def read_idx(path: Path, *, ndim: int) -> npt.NDArray[np.generic]:
    """Read an IDX file, compressed by gzip or not (told by its first bytes, not by its name).

    Args:
        path: the file.
        ndim: how many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        Array of the sizes in the file, in native byte order; writable.

    Raises:
        DataError: the file is not IDX, has another number of dimensions (labels given as images),
            has no samples, is cut short, has bytes left over, or is a damaged gzip file.
    """
    refuse_irregular(path)
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _parse(raw, path, ndim)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(stream, path, ndim)  # type: ignore[arg-type]
    except EOFError as error:
        raise DataError(f"{path}: the gzip stream ends early: the file is cut short") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is corrupt ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse(stream: BinaryIO, path: Path, ndim: int) -> npt.NDArray[np.generic]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file: it starts with {magic.hex(' ') or 'nothing'},"
            " an IDX file with 00 00, a type (08, 09, 0b, 0c, 0d or 0e) and a number of dimensions"
        )
    if magic[3] != ndim:
        raise DataError(
            f"{path}: holds an array of {magic[3]} dimension(s) where {ndim} are needed:"
            " images have 3, labels 1; is it the file its name says?"
        )
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(f"{path}: cut short within its header")
    shape = struct.unpack(f">{ndim}I", sizes)
    if 0 in shape:
        raise DataError(f"{path}: holds no samples (shape {shape})")
    dtype = np.dtype(_DTYPES[magic[2]])
    length = prod(shape) * dtype.itemsize
    # One byte more than announced shows leftovers, and makes gzip verify its own checksum.
    content = read_at_most(stream, length + 1, str(path))
    if len(content) != length:
        found = "more" if len(content) > length else f"{len(content):,} bytes"
        raise DataError(
            f"{path}: shape {shape} needs {length:,} bytes of entries, found {found}"
            f"{_byte_order_hint(sizes, len(content), dtype)}"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _byte_order_hint(sizes: bytes, found: int, dtype: np.dtype[np.generic]) -> str:
    """What to do about sizes that fit the file when they are read the other way round."""
    swapped = struct.unpack(f"<{len(sizes) // 4}I", sizes)
    if prod(swapped) * dtype.itemsize != found:
        return ""
    return (
        f"; its sizes are little-endian, {swapped}, where IDX has the most significant byte first:"
        " write the file again that way"
    )
