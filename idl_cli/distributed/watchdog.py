"""Ending a rank whose main thread can no longer end itself.

A message over NCCL that another rank never answers blocks the main thread in the GPU's driver, out
of reach of exceptions and of Python's signal handlers. A thread beside it learns that another rank
has failed, or that this process was told to stop, and ends the process if nothing else does.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from idl_cli.distributed.failure import RankReport, root_cause
from idl_cli.distributed.joint_failure import exchange_reports
from idl_cli.distributed.store import MeetingPlace

_LOOK: Final = 0.25  # seconds between two looks
_AFTER_FAILURE: Final = 3.0
"""Seconds this rank gets to find out by itself that another has failed: less than the others wait
for its last word."""
_AFTER_SIGNAL: Final = 20.0
"""The same from SIGTERM: time to save a checkpoint; torchrun kills after 30 s."""
_AFTER_LOSS: Final = 10.0
"""The same where rank 0, and the store with it, is gone: it may only have been faster to leave."""


@contextmanager
def watchdog(
    meeting: MeetingPlace,
    end: Callable[[RankReport], None],
    *,
    after_signal: float = _AFTER_SIGNAL,
) -> Iterator[None]:
    """Look out for the end of the job beside what the main thread does.

    Where the main thread does not leave the context in time, the last words of all ranks give the
    cause, and the process exits with its status.

    Args:
        meeting: of the ranks.
        end: called before the exit with the cause, on the rank that tells the user.
        after_signal: seconds from SIGTERM to the end.
    """
    watch = _Watch(meeting.reconnected(), end, after_signal)
    with _signals_to(watch.signals):
        thread = threading.Thread(target=watch.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            watch.leave()
            thread.join()


class _Watch:
    """What the thread beside the main one knows."""

    def __init__(
        self, meeting: MeetingPlace, end: Callable[[RankReport], None], after_signal: float
    ) -> None:
        self._meeting = meeting
        self._end = end
        self._after_signal = after_signal
        self._left = threading.Event()
        self._deadline = float("inf")
        self._word = RankReport(meeting.place.rank, "lost", ("no longer gets through",))
        self._store_is_there = True
        self._told = False
        self.signals = os.pipe()
        for descriptor in self.signals:
            os.set_blocking(descriptor, False)

    def leave(self) -> None:
        """Say that the main thread has left."""
        self._left.set()

    def run(self) -> None:
        """Look until the main thread leaves, or is given up."""
        while not self._left.is_set():
            self._look_for_signals()
            self._look_for_failures()
            if time.monotonic() >= self._deadline and not self._left.is_set():
                self._end_process()

    def _look_for_signals(self) -> None:
        ready, _, _ = select.select([self.signals[0]], [], [], _LOOK)
        if ready and signal.SIGTERM in os.read(self.signals[0], 4096):
            status = 128 + signal.SIGTERM
            self._word = RankReport(self._meeting.place.rank, "interrupted", exit_status=status)
            self._give(self._after_signal)

    def _look_for_failures(self) -> None:
        if not self._store_is_there or self._told:
            return
        try:
            self._told = self._meeting.failed_rank() is not None
        except RuntimeError:
            self._store_is_there = False
            if not self._meeting.place.agent_store:  # ranks outlive an agent that was killed
                self._give(_AFTER_LOSS)
        if self._told:
            self._give(_AFTER_FAILURE)

    def _give(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def _end_process(self) -> None:
        reports, speaks = exchange_reports(self._meeting, self._word)
        cause = root_cause(reports)
        assert cause is not None
        try:
            if speaks:
                self._end(cause)
        finally:
            os._exit(cause.exit_status)


@contextmanager
def _signals_to(pipe: tuple[int, int]) -> Iterator[None]:
    """Have the numbers of signals written to a pipe the moment they come."""
    reading, writing = pipe
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        for descriptor in (reading, writing):
            with suppress(OSError):
                os.close(descriptor)
