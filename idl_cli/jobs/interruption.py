"""SIGINT and SIGTERM in a job and in a sweep: they unwind it once, so that it can be recorded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

from idl_cli.run.lock import holder_of, is_locked

Handler: TypeAlias = Callable[[int, "FrameType | None"], None]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_ECHO: Final = 1.0  # s in which further signals are the first one again
_PATIENCE: Final = 30.0  # s that jobs get to save where they are
_POLL: Final = 0.05  # s
_LOOK: Final = 0.5  # s between two looks at who a process works for
_WATCH: Final = "idl-sweep-watch"
_POOL: Final = "Loky"  # how names of joblib's workers begin


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, with its own exit status.

    Attributes:
        signal: the signal's number.
    """

    signal = int(signal.SIGTERM)


class Unwinding:
    """Raises at a signal, but not again while what it has raised is still being recorded.

    Attributes:
        raised: what it has raised last; None before a signal. Native code that it passes through
            may make another error of it, such as one of a damaged file.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self.raised: KeyboardInterrupt | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del frame
        now = time.monotonic()
        if self._since is not None and now - self._since < _ECHO:
            return
        self._since = now
        self.raised = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise self.raised


@contextmanager
def interruptible() -> Iterator[Unwinding]:
    """Let SIGINT and SIGTERM unwind what is inside.

    One Ctrl-C may come twice: from the terminal and from whoever started the process. Neither that
    nor an impatient second one within a second stops the record of the first from being written.
    """
    unwinding = Unwinding()
    with _handled(unwinding):
        yield unwinding


@contextmanager
def jobs_stopped_first(
    jobs: Sequence[Path],
    tell: Callable[[str], None],
    ended: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Have SIGINT and SIGTERM reach jobs in other processes, and take effect here once they ended.

    A second signal takes effect at once.

    Args:
        jobs: the directories of jobs that may run.
        tell: told, when a signal comes, what is waited for.
        ended: whether none is left; None where those that run now are all that matter.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for each in _SIGNALS:
            signal.signal(each, before[each])
        tell("stopping the jobs that run, which save where they are (again: kill them)")
        _stop(jobs, ended)
        signal.raise_signal(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    with _handled(stop):
        yield


def wait_for_the_end_of_the_pool(sweep: Path) -> None:
    """In a worker of a pool, take no other job of a sweep that is being stopped.

    Returns at once in any other process.

    Args:
        sweep: its directory, locked by the process that the workers belong to.
    """
    owner = holder_of(sweep)
    if owner is None or owner != os.getppid():
        return
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # A worker that was told to stop alone is not waited for by anyone who stops the others.
    deadline = time.monotonic() + 2 * _PATIENCE
    while os.getppid() == owner and is_locked(sweep) and time.monotonic() < deadline:
        time.sleep(_POLL)


def end_with(sweep: Path) -> None:
    """In a process that runs jobs for a sweep's, die with that process, however it dies.

    A worker would run to the end what nobody waits for, and then wait for more.

    Args:
        sweep: its directory, locked by the process that all others belong to.
    """
    owner = holder_of(sweep)
    if owner is None and multiprocessing.current_process().name.startswith(_POOL):
        os._exit(128 + signal.SIGKILL)  # it died while this one started
    watched = any(thread.name == _WATCH for thread in threading.enumerate())
    if owner is not None and owner != os.getpid() and not watched:
        threading.Thread(target=_die_with, args=(sweep, owner), name=_WATCH, daemon=True).start()


def _die_with(sweep: Path, owner: int) -> None:
    # A worker outlives the lock while its parent puts the tables of the sweep together.
    while is_locked(sweep) or os.getppid() == owner:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def deaf_to_the_terminal() -> Iterator[None]:
    """Have processes started meanwhile ignore Ctrl-C: whoever started them tells them to stop."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where signals cannot be set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def kill_jobs(jobs: Sequence[Path]) -> None:
    """Kill the jobs in some directories that still run."""
    for _, pid in _running(jobs):
        _send(pid, signal.SIGKILL)


def _stop(jobs: Sequence[Path], ended: Callable[[], bool] | None) -> None:
    told: set[tuple[Path, int]] = set()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        running = _running(jobs)
        for each in running:
            if each not in told:
                told.add(each)
                _send(each[1], signal.SIGTERM)
        if ended() if ended is not None else not running:
            return
        time.sleep(_POLL)


def _running(jobs: Sequence[Path]) -> list[tuple[Path, int]]:
    """The jobs that run in other processes on this machine, and these processes."""
    found = ((path, holder_of(path)) for path in jobs)
    return [(path, pid) for path, pid in found if pid is not None and pid != os.getpid()]


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    """Handle signals meanwhile; those that are ignored stay so, as under ``nohup``."""
    before = {}
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    except ValueError:  # a launcher runs jobs in threads, where no handler can be set
        yield
        return
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
