"""The jobs of a sweep as they stand in their directories, and the rows of its table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf

from idl_cli.analysis.comparison import numbers
from idl_cli.config.metrics import is_higher_better
from idl_cli.errors import RunError
from idl_cli.requests.config_files import load_config
from idl_cli.requests.override_keys import says_how
from idl_cli.run import read_summary, run_status

Row = dict[str, object]

FIXED_COLUMNS: Final = ("job", "status", "seconds", "error", "dir")
"""Columns of ``sweep.csv`` that are neither a key that varies nor a figure."""

_RANKED_BY: Final = (
    "validation_accuracy",
    "validation_r2",
    "validation_loss",
    "test_accuracy",
    "test_r2",
    "test_mse",
)
"""Figures to rank jobs by where the user names none, the first that a job has."""

NOT_STARTED: Final = "not started"
"""Status of a job that a sweep ended before, or has not come to."""

_KILLED: Final = (
    "killed: it ended without a word (kill -9, out of memory, or the sweep was interrupted)"
)


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as it stands in its directory.

    Attributes:
        number: its number.
        path: its run directory.
        status: how it ended, or that it did not.
        overrides: the keys it was given, with their values as text.
        summary: its ``summary.json``; empty where there is none.
    """

    number: int
    path: Path
    status: str
    overrides: Mapping[str, str]
    summary: Mapping[str, Any]

    @property
    def error(self) -> str | None:
        """Why it did not complete, None where it did or still runs."""
        if self.status == "killed":
            return _KILLED
        error = self.summary.get("error")
        return self.status if error is None and self.status == "interrupted" else error


def collect_jobs(directory: Path) -> list[Job]:
    """Return the jobs found in a sweep's directory, in order of their numbers.

    One whose records cannot be read is a failed one, and says so.
    """
    numbered = (path for path in directory.iterdir() if path.is_dir() and path.name.isdecimal())
    return [_job(path) for path in sorted(numbered, key=lambda path: int(path.name))]


def _job(path: Path) -> Job:
    summary: Mapping[str, Any] = {}
    overrides: Mapping[str, str] = {}
    try:
        status = run_status(path)
        overrides = read_overrides(path)
        if status not in ("running", "killed"):
            summary = read_summary(path)
    except RunError as error:
        status, summary = "failed", {"error": str(error)}
    return Job(int(path.name), path, status, overrides, summary)


def read_overrides(path: Path) -> dict[str, str]:
    """Return the keys that a run was given on the command line, with their values as text.

    Raises:
        RunError: the file that holds them cannot be read.
    """
    return keys_given(override_lines(path))


def keys_given(overrides: Iterable[str]) -> dict[str, str]:
    """Return the keys of overrides and their values as text, those of Hydra itself left out."""
    pairs = (line.lstrip("+~").partition("=") for line in overrides)
    return {key: value for key, _, value in pairs if key.partition(".")[0] != "hydra"}


def override_lines(path: Path) -> list[str]:
    """Return what a run was given on the command line, nothing where it left no word of it.

    Raises:
        RunError: the file that holds them cannot be read.
    """
    file = path / ".hydra" / "overrides.yaml"
    lines = OmegaConf.to_container(load_config(file)) if file.exists() else []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise RunError(f"{file}: is no list of overrides")
    return [str(line) for line in lines]


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose value is not the same in all jobs, in the order they were given.

    Where and how jobs are run counts where all of them say it: a sweep that goes on with another
    number of threads does not vary it.
    """
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [
        key
        for key in keys
        if len({job.overrides.get(key) for job in jobs}) > 1
        and not (says_how(key) and any(key not in job.overrides for job in jobs))
    ]


def short_names(keys: Sequence[str]) -> list[str]:
    """Return the last part of each key, as much more of it as tells it from the others."""
    names = []
    for key in keys:
        parts = key.split(".")
        lengths = range(1, len(parts) + 1)
        shorter = (".".join(parts[-length:]) for length in lengths)
        names.append(next((n for n in shorter if _is_told_apart(n, keys)), key))
    return names


def _is_told_apart(name: str, keys: Sequence[str]) -> bool:
    return sum(f".{key}".endswith(f".{name}") for key in keys) == 1


def variant(job: Job, varying: Sequence[str]) -> str:
    """What a job is among those of its seed: the values that vary, the seed aside."""
    chosen = [(key, job.overrides.get(key, "")) for key in varying if key != "seed"]
    if len(chosen) == 1:
        return chosen[0][1]
    return ", ".join(f"{key}={value}" for key, value in chosen) or "all runs"


# -- rows ------------------------------------------------------------------------------------------


def job_rows(jobs: Sequence[Job], directory: Path) -> list[Row]:
    """Return the rows of ``sweep.csv``: what varies, every number of a job's summary, its error.

    Args:
        jobs: of one sweep.
        directory: of the sweep; ``dir`` is relative to it.
    """
    varying = varying_keys(jobs)
    return [_row(job, varying, directory) for job in jobs]


def _row(job: Job, varying: Sequence[str], directory: Path) -> Row:
    row: Row = {"job": job.number, "status": job.status}
    row.update({key: job.overrides.get(key) for key in varying})
    row.update(numbers(job.summary.get("metrics") or {}))
    row.update(numbers(job.summary.get("sim") or {}, "sim."))
    row["seconds"] = job.summary.get("seconds")
    row["error"] = job.error
    row["dir"] = str(job.path.relative_to(directory))
    return row


# -- ranking ---------------------------------------------------------------------------------------


def ranking_metric(rows: Sequence[Row], wanted: str | None = None) -> str | None:
    """Return the column to rank jobs by: the one wanted, else the first known one there is."""
    names = (wanted,) if wanted is not None else _RANKED_BY
    return next((name for name in names if any(_is_finite(row.get(name)) for row in rows)), None)


def ranked(rows: Sequence[Row], metric: str | None) -> list[Row]:
    """Return the rows with the best first by ``metric``; those that did not complete come last.

    Rows without a finite figure follow those with one; equals keep their order.
    """
    return sorted(rows, key=lambda row: _rank(row, metric))


def _rank(row: Row, metric: str | None) -> tuple[bool, bool, float]:
    value = None if metric is None else row.get(metric)
    finite = _is_finite(value)
    score = float(str(value)) if finite else 0.0
    if metric is not None and is_higher_better(metric):
        score = -score
    return row["status"] != "completed", not finite, score


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def best_row(rows: Sequence[Row], metric: str | None) -> Row | None:
    """Return the best completed row by ``metric``, None where there is none to compare."""
    first: Iterator[Row] = iter(ranked(rows, metric))
    best = next(first, None)
    if metric is None or best is None or best["status"] != "completed":
        return None
    return best if _is_finite(best.get(metric)) else None
