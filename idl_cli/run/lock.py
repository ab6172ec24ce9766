"""The live lock of a run directory: held by the process that writes there, gone when it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idl_cli.errors import RunError

LOCK_NAME = ".lock"

_ATTEMPTS = 5  # a reader that asks whether a run is alive holds the lock for an instant
_PAUSE = 0.05  # seconds


class RunLock:
    """An advisory lock (``flock``) on a file in the run directory.

    The kernel drops it when its holder ends, however it ends, so a lock that is held means a live
    process and a killed run leaves none. The file names the holder for the one who is refused.

    Args:
        directory: the run directory, which exists.

    Raises:
        RunError: another process, or another part of this one, holds the lock.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_NAME
        self._descriptor: int | None = _acquire(self._path)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode() + b"\n", 0)

    def was_removed(self) -> bool:
        """Whether somebody has removed the lock's file, and the directory with it, meanwhile."""
        if self._descriptor is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except OSError:
            return True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is None:
            return
        # Unlinked while still held: whoever opened this file in between sees that it is gone
        # (`_acquire` compares the two) and tries again on a new one.
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Let one process after another into what is inside, wherever runs share something.

    It is the directory itself that is locked (``flock``): nothing is left behind.

    Args:
        directory: what is shared lies in it; it exists.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """Say whether a live process holds the lock of a run directory."""
    try:
        # Something else of this name, such as a pipe, must not keep whoever asks waiting.
        descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder_of(directory: Path) -> int | None:
    """The process on this machine that holds the lock of a run directory, None where none does."""
    if not is_locked(directory):
        return None
    try:
        holder = json.loads((directory / LOCK_NAME).read_text())
        return int(holder["pid"]) if holder["host"] == socket.gethostname() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # let go of meanwhile
        return None


def _acquire(path: Path) -> int:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _refuse_file_of_others(path)
                return descriptor
        except RunError:
            os.close(descriptor)
            raise
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
    raise RunError(
        f"{path.parent}: in use by {_holder(path)}; wait for it to end, or choose another directory"
        " (hydra.run.dir=DIR)"
    )


def _refuse_file_of_others(path: Path) -> None:
    """A lock file that nobody holds is empty or names who held it; anything else is the user's."""
    content = path.read_bytes()
    try:
        known = not content or {"pid", "host"} == json.loads(content).keys()
    except (ValueError, AttributeError):
        known = False
    if not known:
        raise RunError(
            f"{path}: is no lock of a run, which would take its place; move it away, or choose "
            "another directory (hydra.run.dir=DIR)"
        )


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
