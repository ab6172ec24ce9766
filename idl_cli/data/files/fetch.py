"""Finding the files of a data set: in a directory of the user's, in the cache, or on a mirror."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
import requests

from idl_cli.errors import ConfigError, DataError
from idl_cli.masking import MASK, masked_text

_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30.0  # without a byte received, not for the whole file


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher has it.

    Args:
        name: file name below the mirror and in the cache.
        sha256: hexadecimal SHA-256 of its content.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where a data set's files come from.

    Args:
        name: directory within the cache.
        mirrors: base URLs, tried in turn.
        files: what to fetch.
        layouts: directories below a user's ``root`` in which the files are looked for as well.
    """

    name: str
    mirrors: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    layouts: tuple[str, ...] = ()

    def with_mirror(self, mirror: str | None) -> Source:
        """Return the source with ``mirror`` in place of its own mirrors, unless it is None."""
        return self if mirror is None else replace(self, mirrors=(mirror,))


def cache_directory(cache_dir: Path | str | None = None) -> Path:
    """Return where downloads are kept: ``cache_dir``, else $IDL_CACHE, else the user's cache."""
    chosen = cache_dir or os.environ.get("IDL_CACHE") or pooch.os_cache("idl")
    return Path(chosen).expanduser()


def refuse_mirror_beside_root(root: str | None, mirror: str | None) -> None:
    """Raise a ConfigError when both are given: files of a root are never downloaded."""
    if root is not None and mirror is not None:
        raise ConfigError(
            [
                f"dataset.mirror={mirror} has no use beside dataset.root={root}, whose files are"
                " used as they are: leave one of them out"
            ]
        )


def fetch(source: Source, cache_dir: Path | str | None = None) -> dict[str, Path]:
    """Return the source's files from the cache, downloading those that are not there.

    A file in the cache is used only if its checksum is right; a file is put under its name only
    when it is complete and its checksum right. Progress is shown when stderr is a terminal.

    Returns:
        Path of each file by its name.

    Raises:
        DataError: no mirror gave a file with the right checksum, or the cache cannot be used.
    """
    directory = cache_directory(cache_dir) / source.name
    return {file.name: _fetch_one(file, source, directory) for file in source.files}


def find(root: Path | str, names: Sequence[str], layouts: Sequence[str], what: str) -> Path:
    """Return the file or directory below ``root`` that has one of the names; uses no network.

    Args:
        root: the user's directory.
        names: accepted names, the preferred one first.
        layouts: directories below ``root`` looked in after ``root`` itself.
        what: the data set, for the message.

    Raises:
        DataError: ``root`` is no directory, or holds none of them.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DataError(f"dataset.root={root}: no such directory")
    for layout in ("", *layouts):
        for name in names:
            candidate = base / layout / name
            if candidate.exists():
                return candidate
    places = ", ".join(str(base / layout) for layout in ("", *layouts))
    raise DataError(
        f"dataset.root={root}: no file {' or '.join(names)} of {what} in it (looked in {places});"
        " put it there, or leave out dataset.root to have it downloaded"
    )


def _fetch_one(file: RemoteFile, source: Source, directory: Path) -> Path:
    failures = []
    for mirror in source.mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        downloader = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(),
            chunk_size=_CHUNK_BYTES,
            timeout=_TIMEOUT_SECONDS,
            # A proxy that recompresses in transit would change the bytes under the checksum.
            headers={"Accept-Encoding": "identity"},
        )
        try:
            with _masked(pooch.get_logger()):
                path = pooch.retrieve(
                    url,
                    known_hash=f"sha256:{file.sha256}",
                    fname=file.name,
                    path=directory,
                    downloader=downloader,
                )
        except requests.exceptions.RequestException as error:
            reason = _reason(error)
            if MASK in mirror:
                reason += "; the record of a run keeps no passwords: give dataset.mirror=URL again"
            failures.append(f"{url}: {reason}")
        except ValueError:
            failures.append(f"{url}: what it serves has a wrong checksum and was not kept")
        except OSError as error:
            raise DataError(
                f"cannot use {error.filename or directory / file.name}"
                f" ({error.strerror or error}); name another cache directory in the environment"
                " variable IDL_CACHE"
            ) from error
        else:
            return Path(path)
    names = ", ".join(each.name for each in source.files)
    raise DataError(
        f"could not download {file.name} ({'; '.join(failures)}): fetch {names} from"
        f" {' or '.join(source.mirrors)} by other means and put them in {directory}, or in any"
        " directory DIR and say dataset.root=DIR, or name a mirror that works with"
        " dataset.mirror=URL"
    )


@contextmanager
def _masked(logger: logging.Logger) -> Iterator[None]:
    """Keep what a mirror's address holds of passwords out of a library's own lines."""

    def mask(record: logging.LogRecord) -> bool:
        record.msg, record.args = masked_text(record.getMessage()), None
        return True

    logger.addFilter(mask)
    try:
        yield
    finally:
        logger.removeFilter(mask)


def _reason(error: requests.exceptions.RequestException) -> str:
    """Say in a few words what went wrong; the exception's own text is a chain of class names."""
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.Timeout):
        return f"no answer within {_TIMEOUT_SECONDS:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer was interrupted"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate could not be verified"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    return f"{type(error).__name__}: {error}"
