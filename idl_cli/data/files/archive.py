"""Reading members of a .tar.gz into memory: nothing is ever extracted to disk."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from idl_cli.data.files.bounds import read_at_most, refuse_irregular
from idl_cli.errors import DataError

_DRAIN_BYTES = 1 << 20
_OF_HEADERS: Final = (ValueError, OverflowError, LookupError, TypeError, struct.error)
"""What tarfile raises beside its own errors for headers that are not intact."""


def read_members(archive: Path, folder: str, names: Collection[str]) -> dict[str, bytes]:
    """Read the files ``folder/name`` of a gzip-compressed tar archive.

    An archive that names a path outside itself, or holds a link or a device, is refused as a
    whole: no publisher makes one. It is read to its end, so that gzip's checksum is verified.

    Args:
        archive: the .tar.gz file.
        folder: directory of the wanted files within the archive.
        names: wanted file names; others are passed over.

    Returns:
        Content of the wanted files that are there.

    Raises:
        DataError: the archive is damaged, cut short, unsafe, or holds a wanted file twice.
    """
    refuse_irregular(archive)
    wanted = {PurePosixPath(folder, name): name for name in names}
    found: dict[str, bytes] = {}
    try:
        with (
            gzip.open(archive, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as members,
        ):
            for member in members:
                _refuse_unsafe(member, archive)
                name = wanted.get(PurePosixPath(member.name))
                if name is None or not member.isfile():
                    continue
                if name in found:
                    raise DataError(f"{archive}: holds {member.name} twice")
                found[name] = _content(members, member)
            while stream.read(_DRAIN_BYTES):
                pass
    except EOFError as error:
        raise DataError(f"{archive}: the gzip stream ends early: the file is cut short") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive}: the gzip stream is corrupt ({error})") from error
    except (tarfile.TarError, *_OF_HEADERS) as error:
        raise DataError(f"{archive}: not an intact tar archive ({error})") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error})") from error
    return found


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise DataError(
            f"{archive}: names the path {member.name!r} outside the archive; it is not the"
            " publisher's and nothing of it was used"
        )
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = "a file with holes" if member.issparse() else "a link or a device"
        raise DataError(
            f"{archive}: {member.name!r} is {kind}; it is not the publisher's"
            " archive and nothing of it was used"
        )
    if member.size < 0:
        raise tarfile.ReadError(f"{member.name} has a size of {member.size}")


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = members.extractfile(member)
    assert stream is not None, "a regular file has content"
    content = read_at_most(stream, member.size, member.name)
    if len(content) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return content
