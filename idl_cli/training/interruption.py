"""SIGINT and SIGTERM as a question the trainer asks between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO = 1.0  # s in which further signals are the first one again


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped at a step boundary because a signal came; its state has been saved.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.signal = number


class SignalWatch:
    """Which signal has come, if any."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._since = 0.0

    @property
    def received(self) -> int | None:
        """Number of the signal that asked to stop, None while none has come."""
        return self._received

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; a later one stops at once.

        One Ctrl-C comes twice to a process that torchrun has started: from the terminal, and from
        torchrun, to which it came too. That is not yet impatience.
        """
        del frame
        now = time.monotonic()
        if self._received is None:
            self._received, self._since = number, now
        elif now - self._since > _ECHO:
            raise TrainingInterrupted(number)


@contextmanager
def watch_signals() -> Iterator[SignalWatch]:
    """Catch SIGINT and SIGTERM for the duration of the context.

    A signal that came is sent again at the end, to whoever handled it before: what it means for
    the process is not decided here. A signal that is ignored stays so, as in the background of a
    shell's script. Outside the main thread, where Python cannot handle signals, nothing is caught.
    """
    watch = SignalWatch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    previous = {
        number: signal.signal(number, watch.handle)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield watch
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if watch.received is not None:
            signal.raise_signal(watch.received)
