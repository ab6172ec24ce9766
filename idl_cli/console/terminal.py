"""The terminal: messages, warnings, tables, progress.

Where standard output is a terminal, training shows one live line; elsewhere, one plain line an
epoch. Colours follow the terminal and the variables ``NO_COLOR`` and ``FORCE_COLOR``, width follows
``COLUMNS``. Whatever is said also goes to the log, from which a run's ``run.log`` is made.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from idl_cli.console.figures import shown
from idl_cli.console.live_line import LiveProgress, LiveTraining, PlainProgress, PlainTraining
from idl_cli.console.tables import fitted_table
from idl_cli.masking import masked, masked_text
from idl_cli.reporting import ProgressReporter, TrainingReporter

_LOG: Final = "idl_cli"


class _Terminal(RichConsole):
    """Falls silent where nobody reads any more (``idl train | head``): the work goes on."""

    def on_broken_pipe(self) -> None:
        """Write the rest to nowhere; the run's log has it all."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class Console:
    """A reporter on the terminal.

    Args:
        output: where everything but warnings goes; None for standard output.
        errors: where warnings go; None for standard error.
        logged: whether what is said also goes to the log; not where the log is no run's.
    """

    def __init__(
        self, output: TextIO | None = None, errors: TextIO | None = None, *, logged: bool = True
    ) -> None:
        self._out = _Terminal(file=output, highlight=False)
        self._err = _Terminal(file=errors, stderr=errors is None, highlight=False)
        silent = logging.Logger(_LOG, logging.CRITICAL + 1)
        self._log = logging.getLogger(_LOG) if logged else silent
        self._live: Progress | None = None

    def message(self, text: str) -> None:
        """Say one thing."""
        self._log.info(text)
        self._out.print(Text(masked_text(text)), soft_wrap=True)

    def warning(self, text: str) -> None:
        """Say that something was not done as asked, or may not be as expected."""
        self._log.warning(text)
        self._say("warning: ", "yellow", text)

    def error(self, text: str) -> None:
        """Say that something failed; the log is left to who knows the traceback."""
        self._say("error: ", "bold red", text)

    def _say(self, kind: str, style: str, text: str) -> None:
        # A live display owns the terminal: what is printed through it appears above the bar.
        console = self._live.console if self._live else self._err
        console.print(Text.assemble((kind, style), masked_text(text)), soft_wrap=True)

    def facts(self, title: str, pairs: Mapping[str, object]) -> None:
        """Show named values, one a line."""
        width = max(map(len, pairs), default=0)
        lines = [f"  {name:{width}}  {masked_text(shown(value))}" for name, value in pairs.items()]
        self._log.info("\n%s", "\n".join([title, *lines]))
        self._out.print(Text(title, style="bold"))
        for line in lines:
            self._out.print(Text(line), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table; numbers stand right-aligned."""
        kept = [list(map(masked, row, columns)) for row in rows]
        self._show(fitted_table(title, columns, kept, self._out.width))

    def _show(self, table: Table) -> None:
        self._out.print(table)
        plain = RichConsole(color_system=None, width=120, force_terminal=False)
        with plain.capture() as captured:
            plain.print(table)
        self._log.info("\n%s", captured.get().rstrip())

    @contextmanager
    def training(
        self, *, epochs: int, steps_per_epoch: int, done: float = 0.0, spent: float = 0.0
    ) -> Iterator[TrainingReporter]:
        """Show a training of ``epochs``, of which ``done`` took ``spent`` seconds already."""
        if not self._out.is_terminal:
            yield PlainTraining(self.message, epochs, steps_per_epoch, done, spent)
            return
        columns = (
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with self._display(*columns) as display:
            task = display.add_task("", total=epochs, completed=int(done), figures="")
            yield LiveTraining(display, task, steps_per_epoch, done, self._log)

    @contextmanager
    def progress(self, label: str, *, total: float | None = None) -> Iterator[ProgressReporter]:
        """Show a piece of work of ``total`` units, None when nobody knows."""
        if not self._out.is_terminal:
            yield PlainProgress()
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with self._display(*columns) as display:
            task = display.add_task(label, total=total, note="")
            yield LiveProgress(display, task)

    @contextmanager
    def _display(self, *columns: ProgressColumn) -> Iterator[Progress]:
        with Progress(*columns, console=self._out, transient=True) as display:
            self._live = display
            try:
                yield display
            finally:
                self._live = None

    @contextmanager
    def capture_warnings(self) -> Iterator[None]:
        """Show Python's warnings as sentences, each text once."""
        seen: set[str] = set()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            text = str(message)
            if text not in seen:
                seen.add(text)
                self.warning(text)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            warnings.showwarning = show
            yield
