"""What interrupts this process, and how it exits: SIGINT and SIGTERM, one rule of echoes.

One Ctrl-C may come twice, from the terminal and from whoever started the process, to which it came
too; that is not yet impatience. Signals that are ignored stay so, as under ``nohup``.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn, TypeAlias

Handler: TypeAlias = Callable[[int, "FrameType | None"], None]

INTERRUPTING: Final = (signal.SIGINT, signal.SIGTERM)
_ECHO: Final = 1.0  # s in which further signals are the first one again


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came to this process, or to all ranks.

    Attributes:
        signal: the signal's number, which the exit status tells.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = int(number)

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signal).name}"


class _Echo:
    """Tells a signal from one before that comes once more."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_heard(self) -> bool:
        """Whether the signal that comes now is an echo; the time of another one is kept."""
        now = time.monotonic()
        if self._since is not None and now - self._since < _ECHO:
            return True
        self._since = now
        return False


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Handle signals meanwhile; outside the main thread, where none can be handled, do nothing."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


# -- a signal as an exception ----------------------------------------------------------------------


class Unwinding:
    """Raises at a signal, but not again while what it has raised is still being recorded.

    Attributes:
        raised: what it has raised last; None before a signal. Native code that it passes through
            may make another error of it, such as one of a damaged file.
    """

    def __init__(self) -> None:
        self._echo = _Echo()
        self.raised: Interrupted | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del frame
        if not self._echo.is_heard():
            self.raised = Interrupted(number)
            raise self.raised


@contextmanager
def interruptible() -> Iterator[Unwinding]:
    """Let SIGINT and SIGTERM unwind what is inside.

    Neither an echo nor an impatient second signal within a second stops the record of the first
    from being written.
    """
    unwinding = Unwinding()
    with handling(unwinding):
        yield unwinding


# -- a signal as a question ------------------------------------------------------------------------


class SignalWatch:
    """Which signal has come, if any.

    Attributes:
        received: number of the first one, which asks to stop; None while none has come.
    """

    def __init__(self) -> None:
        self._echo = _Echo()
        self.received: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; a later one stops at once."""
        del frame
        if self._echo.is_heard():
            return
        if self.received is not None:
            raise Interrupted(number)
        self.received = number


@contextmanager
def watch_signals() -> Iterator[SignalWatch]:
    """Catch SIGINT and SIGTERM for the duration of the context, to be asked for between two steps.

    A signal that came is sent again at the end, to whoever handled it before: what it means for
    the process is not decided here.
    """
    watch = SignalWatch()
    try:
        with handling(watch):
            yield watch
    finally:
        if watch.received is not None:
            signal.raise_signal(watch.received)


# -- signals that are not for this process ---------------------------------------------------------


def ignore_sigterm() -> None:
    """Let the process end by itself: torchrun sends SIGTERM to ranks that are ending already."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def ignoring_sigint() -> Iterator[None]:
    """Have processes started meanwhile ignore Ctrl-C: whoever started them tells them to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def exit_without_destructors(status: int) -> NoReturn:
    """End this process as the interpreter would, but for the destructors of libraries.

    Some threads of gloo's groups are still there when DistributedDataParallel was used, and now and
    then (two of fifty processes) abort one whose work is done: torchrun then calls the job failed.

    Args:
        status: to exit with.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or its reader has gone
            stream.flush()
    os._exit(status)
