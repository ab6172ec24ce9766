"""The table of ``idl compare``: which columns and lines, for the terminal, a file or a paper."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from idl_cli.analysis.columns import (
    Columns,
    as_data,
    cells,
    columns_of,
    data_columns,
    headings,
    is_numeric,
    matching,
)
from idl_cli.analysis.comparison import (
    COMPLETED,
    Entry,
    Spread,
    averaged,
    metric_of,
    ordered,
    ranked,
)
from idl_cli.analysis.typeset import latex, markdown
from idl_cli.commands import configured
from idl_cli.config.describe import did_you_mean
from idl_cli.errors import RequestError
from idl_cli.reports.entries import find_entries

_SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
)
_PLAIN: Final = ("", ".txt")
_GAP: Final = 3  # columns of the terminal between two of the table's


def compare(flags: argparse.Namespace) -> None:
    """Print or write a comparison of runs.

    Args:
        flags: as parsed.

    Raises:
        RequestError: they name what is not there.
    """
    entries = find_entries(flags.directories, configured())
    over = _named(flags.over, columns_of(entries), "--over")
    counted = averaged(entries, over) if over else entries
    columns = columns_of(counted, over)
    chosen = _named(flags.columns, columns, "--columns")
    sort = _named(flags.sort, columns, "--sort")
    metric = None
    if sort or flags.descending is not None:
        lines = ordered(counted, sort[0] if sort else None, descending=flags.descending)
    else:
        metric = metric_of(counted)
        lines = ranked(counted, metric)
    form = flags.format or _format_of(flags.output)
    if form == "table":
        title = _title(lines) + (f", best {metric} first" if metric and len(lines) > 1 else "")
        _show(title, lines, _leading(columns, sort), chosen, flags.output)
    else:
        _deliver(FORMATS[form](lines, columns, chosen), flags.output)
    if flags.plots is not None:
        _plot(entries, flags.plots)


def _named(text: str | None, columns: Columns, flag: str) -> tuple[str, ...]:
    """The columns that a flag names, comma-separated."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    found = {name: matching(name, columns) for name in names}
    for name, column in found.items():
        if column is None or (flag == "--over" and column not in columns.keys):
            raise RequestError(f"{flag} {name}: {_hint(name, column, columns)}")
    return tuple(column for column in found.values() if column is not None)


def _hint(name: str, column: str | None, columns: Columns) -> str:
    if column is not None:
        return "is no key of the configuration; give one, such as seed"
    several = [each for each in columns.every if each.endswith(f".{name}")]
    if several:
        return f"may be {' or '.join(several)}; say which"
    last = {each.rpartition(".")[2]: each for each in columns.every}
    close = did_you_mean(name, columns.every) or did_you_mean(name, last)
    return f"no run has such a column{close}" + (
        "" if close else f"; shown are {', '.join(columns.shown)}"
    )


def _leading(columns: Columns, sort: Sequence[str]) -> Columns:
    """The columns with the one sorted by among them, where there is room for few only."""
    added = [name for name in sort if name not in columns.shown]
    rest = [name for name in columns.important if name not in sort]
    return replace(
        columns,
        shown=(*columns.shown, *added),
        important=(*rest[:1], *sort, *rest[1:]),
    )


# -- the terminal ----------------------------------------------------------------------------------


def _show(
    title: str,
    entries: Sequence[Entry],
    columns: Columns,
    chosen: Sequence[str],
    output: Path | None,
) -> None:
    """Show the table; columns that the terminal has no room for are left out and named."""
    from idl_cli.console import Console

    page = None if output is None else io.StringIO()
    console = Console(page, logged=False)
    names = chosen or fitting(entries, columns, shutil.get_terminal_size((80, 24)).columns)
    rows = [[cell or None for cell in cells(entry, names)] for entry in entries]
    console.table(title, headings(names), rows)
    for note in notes(entries):
        console.message(note)
    hidden = [] if chosen else [column for column in columns.shown if column not in names]
    if hidden:
        console.message(f"no room for {', '.join(hidden)}: --columns shows what it names")
    if page is not None:
        _deliver(page.getvalue(), output)


def fitting(entries: Sequence[Entry], columns: Columns, width: int) -> list[str]:
    """As many of the columns shown as fit a terminal of ``width``, the most telling ones."""
    shown = list(columns.important)
    while len(shown) > 2 and _width(entries, shown) > width:
        shown.pop()
    return [column for column in columns.shown if column in shown]


def _width(entries: Sequence[Entry], columns: Sequence[str]) -> int:
    lines = [headings(columns), *(cells(entry, columns) for entry in entries)]
    return sum(max(map(len, column)) + _GAP for column in zip(*lines, strict=True))


def _title(entries: Sequence[Entry]) -> str:
    runs = sum(entry.runs + entry.failed for entry in entries)
    done = sum(entry.runs for entry in entries if entry.completed)
    count = "1 run" if runs == 1 else f"{runs} runs"
    return count + (", all completed" if done == runs > 1 else f", {done} completed")


def _is_mean(entry: Entry) -> bool:
    return any(
        isinstance(figure, Spread) and figure.deviation is not None
        for figure in entry.figures.values()
    )


def notes(entries: Sequence[Entry]) -> list[str]:
    """What ± means where means are shown; a sentence for every run that is not whole."""
    explained = ["mean ± standard deviation (n - 1)"] if any(map(_is_mean, entries)) else []
    return explained + [
        entry.error
        if entry.completed and entry.failed and entry.error
        else f"{entry.run} {entry.status}" + (f": {entry.error}" if entry.error else "")
        for entry in entries
        if entry.status != COMPLETED or entry.error
    ]


# -- files -----------------------------------------------------------------------------------------


def _typeset(
    write: Callable[..., str],
) -> Callable[[Sequence[Entry], Columns, Sequence[str]], str]:
    def made(entries: Sequence[Entry], columns: Columns, chosen: Sequence[str]) -> str:
        names = chosen or columns.shown
        numeric = [is_numeric(name, entries) for name in names]
        rows = [cells(entry, names) for entry in entries]
        return write(headings(names), rows, numeric, notes(entries))

    return made


def _csv(entries: Sequence[Entry], columns: Columns, chosen: Sequence[str]) -> str:
    from idl_cli.run.files import csv_bytes

    names = chosen or data_columns(columns, entries)
    return csv_bytes([as_data(entry, names) for entry in entries]).decode()


def _json(entries: Sequence[Entry], columns: Columns, chosen: Sequence[str]) -> str:
    from idl_cli.run.files import to_json

    names = chosen or data_columns(columns, entries)
    rows = to_json([as_data(entry, names) for entry in entries])
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


FORMATS: Final[Mapping[str, Callable[[Sequence[Entry], Columns, Sequence[str]], str]]] = (
    MappingProxyType(
        {"markdown": _typeset(markdown), "latex": _typeset(latex), "csv": _csv, "json": _json}
    )
)


def _format_of(output: Path | None) -> str:
    """What a file's name says it holds.

    Raises:
        RequestError: it says something that no table can be written as.
    """
    if output is None or output.suffix in _PLAIN:
        return "table"
    if output.suffix not in _SUFFIXES:
        raise RequestError(
            f"--output {output}: no table is written as {output.suffix}; give a name that ends in "
            f"{', '.join((*_SUFFIXES, *filter(None, _PLAIN)))}, or --format"
        )
    return _SUFFIXES[output.suffix]


def _plot(entries: Sequence[Entry], directory: Path) -> None:
    """Write the plots, and say which, on standard error: the table may be going to a file."""
    from idl_cli.analysis.plot_choice import choose_plots
    from idl_cli.run.files import write_figure

    plots = choose_plots(entries)
    for plot in plots:
        write_figure(directory / f"{plot.name}.png", plot.figure)
        sys.stderr.write(f"wrote {directory / plot.name}.png: {plot.caption}\n")
    if not plots:
        sys.stderr.write("warning: no plots: fewer than two completed runs differ in a key\n")


def _deliver(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    from idl_cli.run.files import write_atomic

    if output.is_dir():
        raise RequestError(f"--output {output}: is a directory; give a file")
    write_atomic(output, text.encode())
    sys.stdout.write(f"wrote {output}\n")
