"""The terminal: tables, progress, warnings. The only module that knows rich.

Where standard output is a terminal, training shows one live line; elsewhere, one plain line an
epoch. Colours follow the terminal and the variables ``NO_COLOR`` and ``FORCE_COLOR``, width follows
``COLUMNS``. Whatever is said also goes to the log, from which a run's ``run.log`` is made.
"""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal, TextIO

from rich import box
from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from idl_cli.reporting import ProgressReporter, TrainingReporter

_LOG: Final = "idl_cli"

_UNBROKEN: Final = 20  # letters of a word
_GAPS: Final = (3, 2)  # letters between columns: the usual, and where there is little room
_IN_WORDS: Final = re.compile(r"-?[\d.]+(e-?\d+)?( ± [\d.]+(e-?\d+)?)?( ?%)?")

_SHOWN: Final = (
    ("loss", "loss", ".4f"),
    ("accuracy", "accuracy", ".4f"),
    ("r2", "R²", ".4f"),
    ("validation_loss", "val loss", ".4f"),
    ("validation_accuracy", "val accuracy", ".4f"),
    ("validation_r2", "val R²", ".4f"),
    ("iterations_mean", "iterations", ".1f"),
    ("iterations_max", "max", ".0f"),
    ("inf_norm_A", "‖A‖∞", ".4f"),
    ("lr", "lr", ".3g"),
)
"""What is shown of a record: its key, a short label, the number's format."""


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
        self._out.print(Text(text), soft_wrap=True)

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
        console.print(Text.assemble((kind, style), text), soft_wrap=True)

    def facts(self, title: str, pairs: Mapping[str, object]) -> None:
        """Show named values, one a line."""
        width = max(map(len, pairs), default=0)
        lines = [f"  {name:{width}}  {_number(value)}" for name, value in pairs.items()]
        self._log.info("\n%s", "\n".join([title, *lines]))
        self._out.print(Text(title, style="bold"))
        for line in lines:
            self._out.print(Text(line), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table; numbers stand right-aligned."""
        cells = [[_number(value) for value in row] for row in rows]
        every = list(zip(columns, *cells, strict=True))
        gap, widths = _fitted(every, self._out.width)
        table = _table(title, gap)
        for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
            numeric = all(_reads_as_number(row[index]) or row[index] is None for row in rows)
            justify: Literal["left", "right"] = "right" if numeric else "left"
            table.add_column(Text(column), justify=justify, overflow="fold", width=width)
        for line in cells:
            table.add_row(*map(Text, line))
        self._show(table)

    def _show(self, table: Table) -> None:
        self._out.print(table)
        plain = RichConsole(color_system=None, width=120, force_terminal=False)
        with plain.capture() as captured:
            plain.print(table)
        self._log.info("\n%s", captured.get().rstrip())

    @contextmanager
    def training(
        self, *, epochs: int, steps_per_epoch: int, first_epoch: int = 0
    ) -> Iterator[TrainingReporter]:
        """Show a training from ``first_epoch`` (epochs already done) to ``epochs``."""
        if not self._out.is_terminal:
            yield _PlainTraining(self, epochs, first_epoch)
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
            task = display.add_task("", total=epochs, completed=first_epoch, figures="")
            yield _LiveTraining(display, task, steps_per_epoch, first_epoch, self._log)

    @contextmanager
    def progress(self, label: str, *, total: float | None = None) -> Iterator[ProgressReporter]:
        """Show a piece of work of ``total`` units, None when nobody knows."""
        if not self._out.is_terminal:
            yield _PlainProgress()
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with self._display(*columns) as display:
            task = display.add_task(label, total=total, note="")
            yield _LiveProgress(display, task)

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


class _LiveTraining:
    """One live line of a terminal."""

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
        self._done += self._share
        self._show(record)

    def on_epoch(self, record: Mapping[str, object]) -> None:
        self._done = float(str(record["epoch"]))
        self._epoch = dict(record)
        self._show(record)
        self._log.info("epoch %s  %s", record["epoch"], figures(record))

    def _show(self, record: Mapping[str, object]) -> None:
        text = figures({**self._epoch, **record})
        self._display.update(self._task, completed=int(self._done), figures=text)


class _PlainTraining:
    """One line an epoch."""

    def __init__(self, console: Console, epochs: int, first_epoch: int) -> None:
        self._console = console
        self._epochs = epochs
        self._first_epoch = first_epoch
        self._started = time.monotonic()

    def on_step(self, record: Mapping[str, object]) -> None:
        """Wait for the epoch's end: a log wants no line a step."""

    def on_epoch(self, record: Mapping[str, object]) -> None:
        epoch = int(str(record["epoch"]))
        elapsed = time.monotonic() - self._started
        left = elapsed / max(epoch - self._first_epoch, 1) * (self._epochs - epoch)
        width = len(str(self._epochs))
        self._console.message(
            f"epoch {epoch:{width}d}/{self._epochs}  {figures(record)}  "
            f"{duration(elapsed)}, {duration(left)} left"
        )


class _LiveProgress:
    def __init__(self, display: Progress, task: TaskID) -> None:
        self._display = display
        self._task = task

    def advance(self, amount: float = 1) -> None:
        self._display.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._display.update(self._task, note=text)


class _PlainProgress:
    def advance(self, amount: float = 1) -> None:
        """Show nothing: the stage's result will be reported."""

    def note(self, text: str) -> None:
        """Show nothing: the stage's result will be reported."""


def figures(record: Mapping[str, object]) -> str:
    """The known figures of a record on one line; unconverged equilibria if there are any."""
    parts = [
        f"{label} {float(str(record[key])):{form}}"
        for key, label, form in _SHOWN
        if _is_number(record.get(key))
    ]
    unconverged = record.get("unconverged_share")
    if _is_number(unconverged) and float(str(unconverged)) > 0:
        parts.append(f"unconverged {float(str(unconverged)):.2%}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people read them: ``8.1 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _table(title: str, gap: int = 3) -> Table:
    """An empty table whose columns stand ``gap`` letters apart."""
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1, 0, gap - 2),
    )


def _fitted(columns: Sequence[Sequence[str]], width: int) -> tuple[int, Sequence[int | None]]:
    """Gap between columns, and their widths in a table of ``width``: words whole where they fit.

    Args:
        columns: heading and cells of each.
        width: letters that there is room for.

    Returns:
        Widths of None where not even the words fit: the table breaks them as it must.
    """
    full = [max(map(len, column), default=0) for column in columns]
    words = [_longest_word(column) for column in columns]
    for gap in _GAPS:
        room = width - gap * len(columns) - 1
        if sum(full) <= room:
            return gap, full
        if sum(words) <= room:
            return gap, _widened(words, full, room - sum(words))
    return _GAPS[-1], [None] * len(columns)


def _widened(words: Sequence[int], full: Sequence[int], spare: int) -> list[int]:
    """Share out spare letters; who needs few gets them all, the longest texts what is left."""
    widths = list(words)
    order = sorted(range(len(words)), key=lambda index: full[index] - words[index])
    for place, index in enumerate(order):
        given = min(full[index] - words[index], spare // (len(order) - place))
        widths[index] += given
        spare -= given
    return widths


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _longest_word(texts: Sequence[str]) -> int:
    """Letters of the longest word, which a narrow table should not break; of a path, a few."""
    words = (word for text in texts for word in text.split())
    return min(max(map(len, words), default=0), _UNBROKEN)


def _reads_as_number(value: object) -> bool:
    """A number, or one in words already: ``87.5 %``, ``0.943 ± 0.003``."""
    return _is_number(value) or (isinstance(value, str) and bool(_IN_WORDS.fullmatch(value)))


def _number(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if value != int(value or 0) or abs(value) >= 1e6 else f"{value:g}"
    return str(value)
