"""What a sweep leaves beside its jobs: one table of them, and one of extrapolation over seeds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from idl_cli.analysis.columns import text
from idl_cli.analysis.comparison import ranked
from idl_cli.analysis.error_curves import error_curves
from idl_cli.analysis.over_seeds import ShiftedRun, curves_over_seeds, table_over_seeds
from idl_cli.analysis.ranking import ranking_metric
from idl_cli.assembly.sequence_report import SHIFT
from idl_cli.errors import RunError
from idl_cli.masking import masked
from idl_cli.reporting import Reporter
from idl_cli.reports.entries import Schemas, entry_of
from idl_cli.requests.specification import Commands
from idl_cli.run.files import csv_bytes, json_bytes, read_json, write_atomic, write_figure
from idl_cli.sweeps.jobs import (
    NOT_STARTED,
    Job,
    Row,
    job_rows,
    short_names,
    variant,
    varying_keys,
)
from idl_cli.sweeps.page import write_sweep_page
from idl_cli.sweeps.recorded_plan import planned_jobs

_EXTRAPOLATION: Final = "extrapolation"
_SHOWN: Final = ("test_accuracy", "test_r2", "test_mse", "sim.nonzero_fraction", "seconds")
"""Figures that the terminal's table shows; ``sweep.csv`` has all."""

_GAP: Final = 2  # letters between two columns where there is little room
_WRAPPED: Final = 24  # characters at which a long text, such as an error, may be broken
_WIDE: Final = 8  # characters of a number above which it is shown rounded

_LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "validation_accuracy": "val accuracy",
        "validation_r2": "val R²",
        "validation_loss": "val loss",
        "test_accuracy": "test accuracy",
        "test_r2": "test R²",
        "test_mse": "test mse",
        "sim.nonzero_fraction": "non-zeros",
    }
)


def report_sweep(
    directory: Path, commands: Commands, console: Reporter, metric: str | None = None
) -> None:
    """Write ``sweep.csv``, ``sweep.json``, ``sweep.html`` and plots of what varied.

    Where jobs have shifts, there is ``extrapolation.*`` too.

    Args:
        directory: of the sweep.
        commands: that there are; the keys of their runs are known.
        console: shown the tables.
        metric: the figure to rank the jobs by; None for the validation or test score.
    """
    jobs = planned_jobs(directory)
    if not jobs:
        return
    started = [job for job in jobs if job.status != NOT_STARTED]
    schemas = Schemas(commands)
    entries = [entry_of(job.record, str(job.number), schemas) for job in started]
    ranked_by = ranking_metric((entry.figures for entry in entries), metric)
    entries = ranked(entries, ranked_by)
    varying = varying_keys(jobs)
    rows: list[Row] = [masked(row) for row in job_rows(jobs, directory)]
    write_atomic(directory / "sweep.csv", csv_bytes(rows))
    write_atomic(directory / "sweep.json", json_bytes(rows))
    by_number = {str(row["job"]): row for row in rows}
    best_first = [by_number[entry.run] for entry in entries if entry.completed]
    _show_jobs(best_first, rows, varying, ranked_by, console)
    _report_extrapolation(directory, jobs, varying, console)
    waiting = [job.number for job in jobs if job.status == NOT_STARTED]
    write_sweep_page(directory, entries, ranked_by, waiting, schemas)
    console.message(f"sweep: {directory}")


def _show_jobs(
    done: Sequence[Row],
    rows: Sequence[Row],
    varying: Sequence[str],
    metric: str | None,
    console: Reporter,
) -> None:
    """Show the completed jobs, the best first, then those that did not complete, with their error.

    Keys are shown by their last part where that says which one is meant.
    """
    others = [row for row in rows if row["status"] != "completed"]
    labels = short_names(varying)
    figures = dict.fromkeys([*([metric] if metric else []), *_SHOWN])
    if done:
        present = [name for name in figures if any(row.get(name) is not None for row in done)]
        columns = ["job", *varying, *present]
        title = "sweep" if metric is None else f"sweep, best {metric} first"
        names = ["job", *labels, *(_LABELS.get(name, name) for name in present)]
        _show_fitting(title, names, done, columns, varying, console)
    if others:
        columns = ["job", "status", *varying, "error"]
        names = ["job", "status", *labels, "error"]
        _show_fitting("not completed", names, others, columns, varying, console)


def _show_fitting(
    title: str,
    names: Sequence[str],
    rows: Sequence[Row],
    columns: Sequence[str],
    varying: Sequence[str],
    console: Reporter,
) -> None:
    """Show a table without the last of the varying keys that the terminal has no room for."""
    cells = [[_shown(row.get(column), column) for column in columns] for row in rows]
    widths = {
        column: _GAP
        + max(
            # The names of figures may be broken between their words, keys are kept whole.
            len(name) if column in varying else max(map(len, re.split("[ _]", name))),
            min(max(map(_length, line)), _WRAPPED),
        )
        for column, name, *line in zip(columns, names, *cells, strict=True)
    }
    width = shutil.get_terminal_size((80, 24)).columns
    dropped: list[str] = []
    for key in reversed(varying[1:]):
        if sum(widths.values()) <= width:
            break
        dropped.append(key)
        del widths[key]
    shown = [index for index, column in enumerate(columns) if column in widths]
    console.table(title, [names[i] for i in shown], [[line[i] for i in shown] for line in cells])
    if dropped:
        console.message(f"no room for {', '.join(reversed(dropped))}: sweep.csv has all")


def _length(value: object) -> int:
    """Letters of a value as the terminal shows it."""
    return len(f"{value:.4g}" if isinstance(value, float) else str(value))


def _shown(value: object, column: str) -> object:
    """A share in percent, a sampled number with the digits that people read, else as it is."""
    if column == "sim.nonzero_fraction" and isinstance(value, float):
        return text(value, column)
    if not isinstance(value, str) or len(value) <= _WIDE:
        return value
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def _report_extrapolation(
    directory: Path, jobs: Sequence[Job], varying: Sequence[str], console: Reporter
) -> None:
    runs = [
        ShiftedRun(
            variant(job, varying),
            job.record.summary[SHIFT],
            (job.record.summary.get("training") or {}).get("parameters"),
        )
        for job in jobs
        if job.status == "completed" and _are_shifts(job.record.summary.get(SHIFT))
    ]
    files = [job.record.path / f"{SHIFT}.json" for job in jobs]
    described = [file for file in files if file.exists()]
    if runs and described:
        try:
            _write_extrapolation(directory, runs, read_json(described[0]), console)
        except (RunError, LookupError, TypeError, ValueError) as error:
            console.warning(f"{_EXTRAPOLATION}.csv was not written: {error!r}")


def _are_shifts(rows: object) -> bool:
    """Whether an entry of a summary is what ``idl`` writes there: it may have been damaged."""
    return isinstance(rows, list) and all(
        isinstance(row, dict) and {"shift", "distance"} <= row.keys() for row in rows
    )


def _write_extrapolation(
    directory: Path,
    runs: Sequence[ShiftedRun],
    description: Mapping[str, Any],
    console: Reporter,
) -> None:
    table = table_over_seeds(runs)
    write_atomic(directory / f"{_EXTRAPOLATION}.csv", csv_bytes(table))
    labels = {key: description[key] for key in ("shift", "training_shift", "error")}
    write_atomic(directory / f"{_EXTRAPOLATION}.json", json_bytes({**labels, "rows": table}))
    figure = error_curves(
        curves_over_seeds(runs),
        training=float(description["training_shift"]),
        shift_label=str(description["shift"]),
        error_label=str(description["error"]),
    )
    write_figure(directory / f"{_EXTRAPOLATION}.png", figure)
    columns = ["variant", "parameters", "shift f", "runs", "error", "unconverged"]
    shown = [
        [
            row["variant"],
            row["parameters"],
            row["shift"],
            row["runs"],
            _mean_and_deviation(row, "error"),
            row.get("unconverged_share_max"),
        ]
        for row in table
    ]
    console.table(f"{description['error']}, mean ± deviation over runs", columns, shown)


def _mean_and_deviation(row: Mapping[str, Any], name: str) -> str | None:
    mean, deviation = row.get(f"{name}_mean"), row.get(f"{name}_std")
    if mean is None:
        return None
    return f"{mean:.3g}" if deviation is None else f"{mean:.3g} ± {deviation:.1g}"
