"""Means and deviations over the seeds of a sweep, at every shift."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

from idl_cli.analysis.error_curves import ErrorCurve

AVERAGED: Final = ("error", "accuracy", "r2", "mse", "mae", "mape", "loss", "iterations_mean")
"""Figures of a shift that are averaged over seeds."""

WORST: Final = ("unconverged_share", "iterations_max", "residual_max")
"""Figures of which the largest over seeds is kept."""

Row = dict[str, object]


@dataclass(frozen=True)
class ShiftedRun:
    """One finished job of a sweep.

    Args:
        variant: what distinguishes it from the others but the seed, such as ``model=rnn``.
        rows: the rows of its ``shift.json``.
        parameters: trainable values of its model, where that is known.
    """

    variant: str
    rows: Sequence[Mapping[str, object]]
    parameters: int | None = None


def table_over_seeds(runs: Sequence[ShiftedRun]) -> list[Row]:
    """Combine runs that differ in their seed alone.

    Returns:
        One row for each variant and shift: ``variant``, ``parameters`` of the model (None where
        they are unknown or differ), ``shift``, ``distance``, ``runs``, then ``<figure>_mean`` and
        ``<figure>_std`` for each of ``AVERAGED`` (the deviation of a sample, with runs - 1 in the
        denominator; None for a single run) and ``<figure>_max`` for ``WORST``. A figure that one
        of the runs lacks, because it was no finite number, is None.
    """
    table: list[Row] = []
    for variant, members in _by_variant(runs).items():
        for shift in _shifts(members):
            rows = [row for run in members for row in run.rows if row["shift"] == shift]
            combined: Row = {
                "variant": variant,
                "parameters": _parameters(members),
                "shift": shift,
                "distance": rows[0]["distance"],
                "runs": len(rows),
            }
            for name in AVERAGED:
                if any(name in row for row in rows):
                    values = [_number(row.get(name)) for row in rows]
                    finite = all(map(math.isfinite, values))
                    combined[f"{name}_mean"] = fmean(values) if finite else None
                    many = finite and len(values) > 1
                    combined[f"{name}_std"] = stdev(values) if many else None
            for name in WORST:
                if any(name in row for row in rows):
                    combined[f"{name}_max"] = max(_number(row.get(name, 0.0)) for row in rows)
            table.append(combined)
    return table


def curves_over_seeds(runs: Sequence[ShiftedRun]) -> list[ErrorCurve]:
    """The error curves of every variant, with one line of errors a run."""
    curves = []
    for variant, members in _by_variant(runs).items():
        shifts = _shifts(members)
        errors = [
            [
                _number(row.get("error"))
                for shift in shifts
                for row in run.rows
                if row["shift"] == shift
            ]
            for run in members
        ]
        parameters = _parameters(members)
        label = variant if parameters is None else f"{variant} ({parameters:,} parameters)"
        curves.append(ErrorCurve(label, shifts, errors))
    return curves


def _parameters(runs: Sequence[ShiftedRun]) -> int | None:
    counts = {run.parameters for run in runs}
    return counts.pop() if len(counts) == 1 else None


def _by_variant(runs: Sequence[ShiftedRun]) -> dict[str, list[ShiftedRun]]:
    groups: dict[str, list[ShiftedRun]] = {}
    for run in runs:
        groups.setdefault(run.variant, []).append(run)
    return groups


def _shifts(runs: Sequence[ShiftedRun]) -> list[float]:
    """Shifts that all of the runs were evaluated at, ascending."""
    common = set.intersection(*({_number(row["shift"]) for row in run.rows} for run in runs))
    return sorted(common)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
