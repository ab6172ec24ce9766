"""Jobs of a sweep in other processes: told to stop, waited for, and ended with the sweep's own."""

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
from typing import Final

from idl_cli.distributed.process import INTERRUPTING, handling
from idl_cli.run.lock import holder_of, is_locked

_PATIENCE: Final = 30.0  # s that jobs get to save where they are
_POLL: Final = 0.05  # s
_LOOK: Final = 0.5  # s between two looks at who a process works for
_WATCH: Final = "idl-sweep-watch"
_POOL: Final = "Loky"  # how names of joblib's workers begin


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
        for each in INTERRUPTING:
            signal.signal(each, before[each])
        tell("stopping the jobs that run, which save where they are (again: kill them)")
        _stop(jobs, ended)
        signal.raise_signal(number)

    before = {number: signal.getsignal(number) for number in INTERRUPTING}
    with handling(stop):
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
    for number in INTERRUPTING:
        signal.signal(number, signal.SIG_IGN)
    # A worker that was told to stop alone is not waited for by anyone who stops the others.
    deadline = time.monotonic() + 2 * _PATIENCE
    while os.getppid() == owner and is_locked(sweep) and time.monotonic() < deadline:
        time.sleep(_POLL)


def end_with_sweep(sweep: Path) -> None:
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
