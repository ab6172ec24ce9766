"""The jobs of a sweep as they stand in their directories, and the rows of its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from idl_cli.analysis.comparison import numbers
from idl_cli.errors import RunError
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.overrides import is_of_hydra, key_of
from idl_cli.run import RunRecord, read_overrides, read_record
from idl_cli.run.records import UNREADABLE

Row = dict[str, object]

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
        overrides: the keys it was given, with their values as text.
        record: what its run left behind.
    """

    number: int
    overrides: Mapping[str, str]
    record: RunRecord

    @property
    def status(self) -> str:
        """How it ended, or that it did not; one whose records cannot be read is a failed one."""
        return "failed" if self.record.status == UNREADABLE else self.record.status

    @property
    def error(self) -> str | None:
        """Why it did not complete, None where it did or still runs."""
        if self.status == "killed":
            return _KILLED
        error = self.record.error
        return self.status if error is None and self.status == "interrupted" else error

    def of_plan(self, overrides: Iterable[str]) -> Job:
        """The job with the overrides of its sweep's plan in place of its own."""
        record = replace(read_record(self.record.path), error=self.record.error)
        return replace(self, overrides=keys_given(overrides), record=record)


def collect_jobs(directory: Path) -> list[Job]:
    """Return the jobs found in a sweep's directory, in order of their numbers."""
    numbered = (path for path in directory.iterdir() if path.is_dir() and path.name.isdecimal())
    return [_job(path) for path in sorted(numbered, key=lambda path: int(path.name))]


def _job(path: Path) -> Job:
    record = read_record(path)
    overrides: Mapping[str, str] = {}
    try:
        overrides = keys_given(read_overrides(path))
    except RunError as error:  # nobody can say which job it was
        record = replace(record, status=UNREADABLE, summary={}, error=str(error))
    return Job(int(path.name), overrides, record)


def planned_job(number: int, directory: Path, overrides: Iterable[str]) -> Job:
    """Return a job that has not started.

    Args:
        number: of the job.
        directory: of its sweep.
        overrides: of the job.
    """
    record = RunRecord(directory / str(number), NOT_STARTED, None, {}, {}, None)
    return Job(number, keys_given(overrides), record)


def keys_given(overrides: Iterable[str]) -> dict[str, str]:
    """Return the keys of overrides and their values as text, those of Hydra itself left out."""
    return {key_of(text): text.partition("=")[2] for text in overrides if not is_of_hydra(text)}


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose value is not the same in all jobs, in the order they were given.

    Keys that make no other job count where all of them say it: a sweep that goes on with another
    number of threads does not vary it.
    """
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [
        key
        for key in keys
        if len({job.overrides.get(key) for job in jobs}) > 1
        and not (role_of(key).keeps_the_job and any(key not in job.overrides for job in jobs))
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


def job_rows(jobs: Sequence[Job], directory: Path) -> list[Row]:
    """Return the rows of ``sweep.csv``: what varies, every number of a job's summary, its error.

    Args:
        jobs: of one sweep.
        directory: of the sweep; ``dir`` is relative to it.
    """
    varying = varying_keys(jobs)
    return [_row(job, varying, directory) for job in jobs]


def _row(job: Job, varying: Sequence[str], directory: Path) -> Row:
    summary = job.record.summary
    row: Row = {"job": job.number, "status": job.status}
    row.update({key: job.overrides.get(key) for key in varying})
    row.update(numbers(summary.get("metrics") or {}))
    row.update(numbers(summary.get("sim") or {}, "sim."))
    row["seconds"] = summary.get("seconds")
    row["error"] = job.error
    row["dir"] = str(job.record.path.relative_to(directory))
    return row
