"""Errors a user can act on: each says what is wrong, with which value, what is allowed, what to do.

Every room may import this module; it imports nothing. A mistake of ours is an ``assert``; a mistake
of the user's is one of these types, which the command line prints as a sentence, no traceback.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_NO_PLACE: Final = (
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ELOOP,
)
_OUT_OF_MEMORY: Final = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Storage size calculation overflowed",
)
"""What torch says of it, in errors of several types."""


class IdlError(Exception):
    """Base of all errors meant for the user.

    Attributes:
        exit_status: what ``idl`` exits with: 1 when the work failed, 2 when the request was wrong.
    """

    exit_status: int = 1


class RequestError(IdlError, ValueError):
    """The request itself is wrong: nothing was started (exit status 2)."""

    exit_status = 2


class ConfigError(RequestError):
    """One or more mistakes in the configuration, all reported at once.

    Args:
        problems: one sentence a mistake, each naming the key, the value and what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ArgumentError(RequestError):
    """An argument of a Python call is out of range, or two of them contradict each other."""


class ShapeError(RequestError):
    """A tensor does not have the shape or dtype that the model or the problem needs."""


class UnsupportedModelError(RequestError):
    """A network cannot be expressed as asked; the message names the module."""


class MissingExtraError(RequestError):
    """An optional dependency is not installed; the message gives the install command."""


class DataError(IdlError):
    """A data file is missing, corrupt, truncated or mislabelled; the message names the file."""


class RunError(IdlError):
    """A run directory cannot be used as asked (no checkpoint, in use, made by another command)."""


class NonFiniteError(IdlError):
    """A loss, gradient or state became NaN or infinite; the message says where."""


class RankError(IdlError):
    """One of several processes failed, was killed or never joined; the message names its rank.

    Args:
        message: the rank and its cause.
        logged: whether a traceback of the cause has been logged.
    """

    def __init__(self, message: object, *, logged: bool = False) -> None:
        super().__init__(message)
        self.logged = logged


class PeerLostError(RankError):
    """A message to or from another rank could not be carried: most likely that rank has ended."""


class RankExit(RankError):
    """This rank ends because of what another rank tells the user: nothing more is to be said.

    Args:
        exit_status: what the process exits with.
    """

    def __init__(self, exit_status: int) -> None:
        super().__init__(exit_status)
        self.exit_status = exit_status


class ConvergenceWarning(UserWarning):
    """A solve stopped before it reached its tolerance; the result is usable but inexact."""


class PoorFitWarning(UserWarning):
    """Trained rows explain little of the teacher, though the solve is as good as it says."""


class WellPosednessWarning(UserWarning):
    """A unique equilibrium is not guaranteed for the model as it stands."""


class IgnoredOptionWarning(UserWarning):
    """A request cannot be honoured here; the message says what is done instead."""


def system_refusal(error: OSError) -> str | None:
    """What the operating system refuses and what to do; None for an error that is not of the kind.

    Full disks, missing rights and places that are no directory are no bug: they need no traceback.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = (
            "make room; resume=auto goes on where a run was, sweep.resume=DIR where a sweep was"
        )
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        advice = "get the right to it, or choose another place"
    elif error.errno in _NO_PLACE:
        advice = "choose another place"
    elif error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO):
        advice = "look at the disk or the network behind it, and go on as after a full disk"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "raise the limit (ulimit -n), or run fewer processes at a time"
    else:
        return None
    file = "" if error.filename is None else f"{error.filename}: "
    return f"{file}{error.strerror}; {advice}"


def file_refusal(path: Path, largest: int | None = None) -> str | None:
    """Say why a path is not to be read as a file; None where it is one, or where there is nothing.

    To be asked before opening: a pipe or a device could keep its reader waiting for ever.

    Args:
        path: links are followed.
        largest: bytes above which the file is refused; None for any size.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):  # opening it says what is wrong
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        return f"is {kind}, where a file is needed"
    if largest is not None and found.st_size > largest:
        return f"has {found.st_size:,} bytes, where at most {largest:,} are read"
    return None


def memory_refusal(error: BaseException) -> str | None:
    """Say how much memory was missing and what to do; None for an error that is not of the kind."""
    text = str(error)
    if not isinstance(error, MemoryError) and not any(words in text for words in _OUT_OF_MEMORY):
        return None
    amount = re.search(r"[Tt]ried to allocate [\d.]+ \w+", text)
    what = amount[0].lower() if amount else text.strip().partition("\n")[0]
    return f"out of memory{what and ': '}{what}; use fewer samples, smaller batches or models"


def unforeseen(error: BaseException) -> str:
    """Say in one line what an error is that is none of ours, and what to do where that is known."""
    refusal = system_refusal(error) if isinstance(error, OSError) else None
    first = str(error).strip().partition("\n")[0]
    return refusal or memory_refusal(error) or f"{type(error).__name__}: {first}"
