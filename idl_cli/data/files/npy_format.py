"""The .npy format, one array after its header (numpy.lib.format), and archives of such members.

What a header says is held against the bytes that are there before memory is taken for it.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from idl_cli.data.files.bounds import read_at_most, refuse_more_than_memory
from idl_cli.errors import DataError

Array = npt.NDArray[np.generic]

_SUFFIX: Final = ".npy"
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE: Final = (
    EOFError,
    LookupError,  # a field of the header that is missing
    MemoryError,  # of a header nested too deeply; an array's is checked before
    NotImplementedError,  # a compression that zipfile does not know
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,  # an encrypted member
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for content that is not intact."""


def read_npy(file: Path) -> Array:
    """Read the array of a .npy file.

    Raises:
        DataError: the file cannot be read, is no intact array, or holds pickled objects.
    """
    try:
        # Opened here, since numpy.load leaves a damaged file open.
        with file.open("rb") as stream:
            size = file.stat().st_size
            return _read(stream, stream, size, str(file))
    except _DAMAGE as error:
        raise _refusal(str(file), error) from error


def npy_blocks(stream: IO[bytes], where: str, rows: int) -> Iterator[Array]:
    """Read an array from a stream that need not be seekable, some rows at a time.

    Args:
        stream: of the .npy format, from its beginning.
        where: what the array is called in a message.
        rows: of a block; an array in Fortran's order comes as one block.

    Raises:
        DataError: it is no intact array, or holds pickled objects.
    """
    try:
        shape, fortran, dtype = _header(stream, where)
        if not shape or not dtype.itemsize or min(shape) < 0:
            raise ValueError(f"its header says {dtype} of shape {shape}, which has no rows")
        whole = fortran and len(shape) > 1
        step = shape[0] if whole else min(rows, shape[0])
        for first in range(0, shape[0], max(1, step)):
            block = (min(step, shape[0] - first), *shape[1:])
            needed = prod(block) * dtype.itemsize
            content = read_at_most(stream, needed, where)
            if len(content) < needed:
                raise ValueError(f"ends after {first:,} of {shape[0]:,} rows")
            yield np.frombuffer(content, dtype).reshape(block, order="F" if whole else "C")
        if stream.read(1):  # at its end a member's checksum is verified
            raise ValueError(f"more follows after its {shape[0]:,} rows")
    except _DAMAGE as error:
        raise _refusal(where, error) from error


class NpzMembers(Mapping[str, Array]):
    """The arrays of a .npz file by name, each read when it is asked for and not before.

    Args:
        file: the file.

    Raises:
        DataError: the file cannot be read or is no archive; of ``[name]``: as ``read_npy``.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(file) as archive:
                members = {each.filename.removesuffix(_SUFFIX): each for each in archive.infolist()}
                self._names = {name: each.filename for name, each in members.items()}
                if len(members) < len(archive.infolist()):
                    raise DataError(f"{file}: holds two arrays of one name")
        except _DAMAGE as error:
            raise _refusal(str(file), error) from error

    def __getitem__(self, name: str) -> Array:
        member, where = self._names[name], f"{self._file}[{name}]"
        if not member.endswith(_SUFFIX):
            raise DataError(f"{where}: not an array")
        try:
            with zipfile.ZipFile(self._file) as archive:
                size = archive.getinfo(member).file_size
                # A member cannot be wound back without being decompressed again.
                with archive.open(member) as header, archive.open(member) as stream:
                    array = _read(header, stream, size, where)
                    stream.read(1)  # at its end a member's checksum is verified
                    return array
        except _DAMAGE as error:
            raise _refusal(where, error) from error

    def blocks(self, name: str, rows: int) -> Iterator[Array]:
        """The array of a name, some rows at a time: see ``npy_blocks``."""
        with zipfile.ZipFile(self._file) as archive, archive.open(self._names[name]) as stream:
            yield from npy_blocks(stream, f"{self._file}[{name}]", rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read(header: IO[bytes], stream: IO[bytes], size: int, where: str) -> Array:
    """Read an array of a member or file of ``size`` bytes, once its header agrees with that."""
    shape, _, dtype = _header(header, where)
    needed, found = prod(shape) * dtype.itemsize, size - header.tell()
    if needed != found or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(
            f"its header says {dtype} of shape {shape}, {needed:,} bytes; {found:,} follow"
        )
    refuse_more_than_memory(needed, where)
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether in Fortran's order, and dtype of the array that follows."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"format version {'.'.join(map(str, version))}")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise DataError(
            f"{where}: holds pickled objects, which are never loaded because they can run code;"
            " save a numeric array (numpy.save of an array that is not of dtype object)"
        )
    return shape, fortran, dtype


def _refusal(where: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    if isinstance(error, FileNotFoundError):
        return DataError(f"{where}: no such file")
    if isinstance(error, zipfile.BadZipFile):
        return DataError(f"{where}: a damaged or truncated .npz file ({error})")
    reason = str(error) or type(error).__name__
    return DataError(f"{where}: not an intact NumPy file ({reason})")
