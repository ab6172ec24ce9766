"""Work as it goes on: one live line of a terminal, or plain lines where there is none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from rich.progress import Progress, TaskID

from idl_cli.console.figures import duration, figures

_STEPS: Final = 5
_SECONDS: Final = 5.0
"""What an estimate is made from, at least; an epoch that is over before needs none."""


class LiveTraining:
    """One live line of a terminal.

    Args:
        display: that the line is part of.
        task: the line.
        steps_per_epoch: that it moves by.
        done: epochs already done, fractions included.
        log: gets a line an epoch.
    """

    def __init__(
        self,
        display: Progress,
        task: TaskID,
        steps_per_epoch: int,
        done: float,
        log: logging.Logger,
    ) -> None:
        self._display = display
        self._task = task
        self._share = 1 / max(steps_per_epoch, 1)
        self._done = done
        self._log = log
        self._epoch: dict[str, object] = {}

    def on_step(self, record: Mapping[str, object]) -> None:
        """Move the line by a step."""
        self._done += self._share
        self._show(record)

    def on_epoch(self, record: Mapping[str, object]) -> None:
        """Show the epoch's figures, and keep them in the log."""
        self._done = float(str(record["epoch"]))
        self._epoch = dict(record)
        self._show(record)
        self._log.info("epoch %s  %s", record["epoch"], figures(record))

    def _show(self, record: Mapping[str, object]) -> None:
        text = figures({**self._epoch, **record})
        self._display.update(self._task, completed=self._done, figures=text)


class PlainTraining:
    """One line an epoch, and before the first one what it will take, where that is long.

    Args:
        say: takes the line.
        epochs: of the whole training.
        steps_per_epoch: in each.
        done: epochs already done, fractions included.
        spent: seconds that these took.
        clock: the present time in seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        epochs: int,
        steps_per_epoch: int,
        done: float = 0.0,
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._done = done
        self._clock = clock
        self._started = clock() - spent
        self._steps = 0
        self._timed_from = 0.0
        self._estimated = False

    def on_step(self, record: Mapping[str, object]) -> None:
        """Say once how long it will take; for the rest a log wants no line a step."""
        if self._estimated:
            return
        self._steps += 1
        if self._steps == 1:  # the first step also pays for what is set up once
            self._timed_from = self._clock()
            return
        seconds, steps = self._clock() - self._timed_from, self._steps - 1
        if steps < _STEPS or seconds < _SECONDS:
            return
        self._estimated = True
        epoch = seconds / steps * self._steps_per_epoch
        self._done += self._steps / self._steps_per_epoch
        self._say(
            f"after {self._steps} steps: {duration(epoch)} an epoch, about"
            f" {duration(epoch * (self._epochs - self._done))} left, validation aside"
        )

    def on_epoch(self, record: Mapping[str, object]) -> None:
        """Say what the epoch came to, and how long the rest will take."""
        self._estimated = True
        epoch = int(str(record["epoch"]))
        elapsed = self._clock() - self._started
        left = elapsed / epoch * (self._epochs - epoch)
        width = len(str(self._epochs))
        self._say(
            f"epoch {epoch:{width}d}/{self._epochs}  {figures(record)}  "
            f"{duration(elapsed)}, {duration(left)} left"
        )


class LiveProgress:
    """A bar and a note on one live line."""

    def __init__(self, display: Progress, task: TaskID) -> None:
        self._display = display
        self._task = task

    def advance(self, amount: float = 1) -> None:
        """Move the bar."""
        self._display.advance(self._task, amount)

    def note(self, text: str) -> None:
        """Show a text beside the bar."""
        self._display.update(self._task, note=text)


class PlainProgress:
    """Nothing where nobody watches."""

    def advance(self, amount: float = 1) -> None:
        """Show nothing: the stage's result will be reported."""

    def note(self, text: str) -> None:
        """Show nothing: the stage's result will be reported."""
