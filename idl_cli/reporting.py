"""How a command tells its user what happens: the protocol, without a terminal library.

``idl_cli.console.Console`` is what the command line uses; ``SilentReporter`` is for Python callers
and tests. Rooms below the commands never see a reporter: they take plain callbacks, which a command
fills with these methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class TrainingReporter(Protocol):
    """What is shown while a model is trained; records use the names of ``metrics.jsonl``."""

    def on_step(self, record: Mapping[str, object]) -> None:
        """Take note of one optimiser step: ``loss``, and what else is known that often."""

    def on_epoch(self, record: Mapping[str, object]) -> None:
        """Take note of a finished epoch (``epoch`` counts from 1).

        Validation figures carry the prefix ``validation_``.
        """


class ProgressReporter(Protocol):
    """What is shown of a piece of work whose length may be known."""

    def advance(self, amount: float = 1) -> None:
        """Count ``amount`` units as done."""

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as the present gap."""


class Reporter(Protocol):
    """Everything a command may tell its user."""

    def message(self, text: str) -> None:
        """Say one thing."""

    def warning(self, text: str) -> None:
        """Say that something was not done as asked, or may not be as expected."""

    def error(self, text: str) -> None:
        """Say that something failed."""

    def facts(self, title: str, pairs: Mapping[str, object]) -> None:
        """Show named values, one a line."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table; numbers stand right-aligned."""

    def training(
        self, *, epochs: int, steps_per_epoch: int, done: float = 0.0, spent: float = 0.0
    ) -> AbstractContextManager[TrainingReporter]:
        """Show a training of ``epochs``, of which ``done`` took ``spent`` seconds already."""

    def progress(
        self, label: str, *, total: float | None = None
    ) -> AbstractContextManager[ProgressReporter]:
        """Show a piece of work of ``total`` units, None when nobody knows."""


class SilentReporter:
    """A reporter that says nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Say nothing."""

    def error(self, text: str) -> None:
        """Say nothing."""

    def facts(self, title: str, pairs: Mapping[str, object]) -> None:
        """Show nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show nothing."""

    @contextmanager
    def training(
        self, *, epochs: int, steps_per_epoch: int, done: float = 0.0, spent: float = 0.0
    ) -> Iterator[TrainingReporter]:
        """Show nothing of a training."""
        yield _SilentTraining()

    @contextmanager
    def progress(self, label: str, *, total: float | None = None) -> Iterator[ProgressReporter]:
        """Show nothing of a piece of work."""
        yield _SilentProgress()


class _SilentTraining:
    def on_step(self, record: Mapping[str, object]) -> None:
        """Show nothing."""

    def on_epoch(self, record: Mapping[str, object]) -> None:
        """Show nothing."""


class _SilentProgress:
    def advance(self, amount: float = 1) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""
