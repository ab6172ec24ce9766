"""Work as it goes on: one live line of a terminal, or plain lines where there is none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from rich.progress import Progress, TaskID

from idl_cli.console.figures import duration, figures


class LiveTraining:
    """One live line of a terminal.

    Args:
        display: that the line is part of.
        task: the line.
        steps_per_epoch: that it moves by.
        first_epoch: epochs already done.
        log: gets a line an epoch.
    """

    def __init__(
        self,
        display: Progress,
        task: TaskID,
        steps_per_epoch: int,
        first_epoch: int,
        log: logging.Logger,
    ) -> None:
        self._display = display
        self._task = task
        self._share = 1 / max(steps_per_epoch, 1)
        self._done = float(first_epoch)
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
        self._display.update(self._task, completed=int(self._done), figures=text)


class PlainTraining:
    """One line an epoch.

    Args:
        say: takes the line.
        epochs: of the whole training.
        first_epoch: epochs already done.
    """

    def __init__(self, say: Callable[[str], None], epochs: int, first_epoch: int) -> None:
        self._say = say
        self._epochs = epochs
        self._first_epoch = first_epoch
        self._started = time.monotonic()

    def on_step(self, record: Mapping[str, object]) -> None:
        """Wait for the epoch's end: a log wants no line a step."""

    def on_epoch(self, record: Mapping[str, object]) -> None:
        """Say what the epoch came to, and how long the rest will take."""
        epoch = int(str(record["epoch"]))
        elapsed = time.monotonic() - self._started
        left = elapsed / max(epoch - self._first_epoch, 1) * (self._epochs - epoch)
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
