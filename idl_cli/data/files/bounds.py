"""Bounds on what a file may ask for before any of it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Final

from idl_cli.errors import DataError, file_refusal

_PIECE: Final = 1 << 24  # bytes read at a time


def refuse_irregular(file: Path) -> None:
    """Refuse a directory, and a pipe or device, whose reader might wait for ever.

    Raises:
        DataError: it is one.
    """
    refusal = file_refusal(file)
    if refusal is not None:
        raise DataError(f"{file}: {refusal}")


def refuse_more_than_memory(needed: int, where: str) -> None:
    """Refuse content that this machine has no room for, before the system ends the process.

    Args:
        needed: bytes.
        where: what the content is called in a message.

    Raises:
        DataError: there is less memory than that.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise DataError(f"{where}: needs {needed:,} bytes of memory; this machine has {memory:,}")


def read_at_most(stream: IO[bytes], length: int, where: str) -> bytes:
    """Read up to so many bytes, taking memory for those alone that are there.

    Args:
        stream: may give far more bytes than the file it decompresses has.
        length: as a header announces it, true or not.
        where: what the content is called in a message.

    Raises:
        DataError: there is more than this machine has memory for.
    """
    pieces, read = [], 0
    while read < length:
        refuse_more_than_memory(read, where)
        piece = stream.read(min(length - read, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        read += len(piece)
    return b"".join(pieces)
