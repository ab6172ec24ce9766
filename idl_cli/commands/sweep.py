"""What a sweep leaves beside its jobs: one table of them, and one of extrapolation over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from idl_cli.analysis.extrapolation import error_curves
from idl_cli.analysis.over_seeds import ShiftedRun, curves_over_seeds, table_over_seeds
from idl_cli.commands.sequences import SHIFT
from idl_cli.errors import RunError
from idl_cli.reporting import Reporter
from idl_cli.run import run_status
from idl_cli.run.files import csv_bytes, json_bytes, read_json, write_atomic

_FIGURE_DPI: Final = 150
_EXTRAPOLATION: Final = "extrapolation"


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


def report_sweep(directory: Path, console: Reporter) -> None:
    """Write ``sweep.csv`` and ``sweep.json``; where jobs have shifts, ``extrapolation.*`` too.

    Args:
        directory: of the sweep.
        console: shown the tables.
    """
    jobs = list(_jobs(directory))
    if not jobs:
        return
    varying = varying_keys(jobs)
    rows = [_row(job, varying, directory) for job in jobs]
    write_atomic(directory / "sweep.csv", csv_bytes(rows))
    write_atomic(directory / "sweep.json", json_bytes(rows))
    _show_jobs(rows, varying, console)
    runs = [
        ShiftedRun(_variant(job, varying), job.summary[SHIFT])
        for job in jobs
        if job.status == "completed" and job.summary.get(SHIFT)
    ]
    if runs:
        example = next(job.path for job in jobs if job.summary.get(SHIFT))
        _write_extrapolation(directory, runs, read_json(example / f"{SHIFT}.json"), console)
    console.message(f"sweep: {directory}")


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose value is not the same in all jobs, in the order they were given."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _jobs(directory: Path) -> Iterator[Job]:
    numbered = (path for path in directory.iterdir() if path.is_dir() and path.name.isdigit())
    for path in sorted(numbered, key=lambda path: int(path.name)):
        try:
            summary = read_json(path / "summary.json")
        except RunError:
            summary = {}
        yield Job(int(path.name), path, str(run_status(path)), _overrides(path), summary)


def _overrides(path: Path) -> dict[str, str]:
    file = path / ".hydra" / "overrides.yaml"
    try:
        lines = OmegaConf.to_container(OmegaConf.load(file)) if file.exists() else []
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{file}: cannot be read ({error})") from error
    assert isinstance(lines, list)
    pairs = (str(line).lstrip("+~").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def _row(job: Job, varying: Sequence[str], directory: Path) -> dict[str, object]:
    row: dict[str, object] = {"job": job.number, "status": job.status}
    row.update({key: job.overrides.get(key) for key in varying})
    row.update(_numbers(job.summary.get("metrics", {})))
    row.update(_numbers(job.summary.get("sim", {}), "sim."))
    row["seconds"] = job.summary.get("seconds")
    row["error"] = job.summary.get("error")
    row["dir"] = str(job.path.relative_to(directory))
    return row


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """All numbers of a nested section, their keys joined by dots."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(_numbers(value, f"{prefix}{key}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found


def _variant(job: Job, varying: Sequence[str]) -> str:
    """What a job is among those of its seed: the values that vary, the seed aside."""
    chosen = [(key, job.overrides.get(key, "")) for key in varying if key != "seed"]
    if len(chosen) == 1:
        return chosen[0][1]
    return ", ".join(f"{key}={value}" for key, value in chosen) or "all runs"


def _show_jobs(
    rows: Sequence[Mapping[str, object]], varying: Sequence[str], console: Reporter
) -> None:
    scores = ("test_accuracy", "test_r2", "test_mse")
    columns = ["job", "status", *varying]
    columns += [name for name in (*scores, "seconds") if any(name in row for row in rows)]
    console.table("sweep", columns, [[row.get(name) for name in columns] for row in rows])


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
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_FIGURE_DPI)
    write_atomic(directory / f"{_EXTRAPOLATION}.png", buffer.getvalue())
    columns = ["variant", "shift f", "runs", "error", "unconverged"]
    shown = [
        [
            row["variant"],
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
