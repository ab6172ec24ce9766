"""``idl sim trainer.path=…``: every model of a path measured, the teacher pruned beside them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from idl_cli.analysis.path_plot import path_figure
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.pruning_baseline import LABELS
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.path import PathGrid, asked, path_row
from idl_cli.sim.fit.selection import Candidate, best_candidate
from idl_cli.sim.regression.problem import LambdaScale
from idl_cli.sim.states.convolution_recording import AnyRecording

SIM_METHOD = "SIM"
TUNED_METHOD = "SIM, fine-tuned"
_SHOWN = 15
_CERTIFIED = MappingProxyType(
    {"test_certified_accuracy": "proven", "test_certified_radius_mean": "radius"}
)
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Measures:
    """How a network is scored.

    Args:
        test: figures of the test part, keys without a prefix.
        validation: the score that a choice goes by, larger is better; None without that part.
        score: key of the figure that curves show, ``accuracy`` or ``r2``.
    """

    test: Callable[[nn.Module], dict[str, float]]
    validation: Callable[[nn.Module], float] | None
    score: str

    def row(self, model: nn.Module) -> Row:
        """Figures under the names of the run's files."""
        row: Row = {f"test_{name}": value for name, value in self.test(model).items()}
        if self.validation is not None:
            row["validation_score"] = self.validation(model)
        return row


@dataclass(frozen=True, eq=False)
class MeasuredPath:
    """A path that was followed.

    Attributes:
        rows: one a λ, the largest first.
        tuned: one for each of them, trained on with labels; none where that was not asked for.
        best: the fit that the run keeps, and its row.
        seconds: of all fits, equilibria included, measuring not.
    """

    rows: tuple[Row, ...]
    tuned: tuple[Row, ...]
    best: tuple[Fit, Row]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Point(Candidate):
    """A candidate that has been measured."""

    row: Row


def penalties_of(
    path: int | Mapping[str, Any] | Sequence[float],
    recording: AnyRecording,
    scale: LambdaScale,
    nonzeros: float | None = None,
) -> tuple[float, ...]:
    """The λ_z that ``trainer.path`` asks for, the largest first, in units of ``scale``.

    Args:
        path: values, a number of points, or {points, smallest}.
        recording: whose λ_max the grid starts at.
        scale: unit of λ.
        nonzeros: a limit on non-zeros, whose shares are given then in place of λ_z: points lie
            evenly, in ratio, between 1 and it.
    """
    if isinstance(path, int) and nonzeros is not None:
        return tuple(nonzeros ** (point / path) for point in range(1, path + 1))
    if isinstance(path, int):
        return PathGrid(points=path).values(recording, scale)
    if isinstance(path, Mapping):
        return PathGrid(**path).values(recording, scale)
    return tuple(sorted((float(each) for each in path), reverse=True))


def follow(
    fits: Iterator[Fit],
    measures: Measures,
    *,
    select: bool,
    max_nonzero_fraction: float | None,
    on_row: Callable[[Row], None],
    tune: Callable[[nn.Module], nn.Module] | None = None,
) -> MeasuredPath:
    """Measure every fit as it comes, and hold on to the best one alone.

    Args:
        fits: the largest λ first.
        measures: how.
        select: keep the one that does best on the validation part, of equally good ones the
            sparsest; False: the last, whose λ is smallest.
        max_nonzero_fraction: with ``select``, none denser is kept while there is one that is not.
        on_row: told of each.
        tune: a fine-tuned copy of a model, measured beside it; the fit is kept as it is.
    """
    rows: list[Row] = []
    tuned: list[Row] = []
    seconds = 0.0

    def measured() -> Iterator[_Point]:
        nonlocal seconds
        started = time.perf_counter()
        for found in fits:
            seconds += time.perf_counter() - started
            row = {
                "method": SIM_METHOD,
                "labels": False,
                **path_row(found),
                **measures.row(found.model),
            }
            rows.append(row)
            on_row(row)
            if tune is not None:
                model = tune(found.model)
                size = {"nonzeros": count_nonzeros(model)}
                names = {"method": TUNED_METHOD, "labels": True, **asked(found.options)}
                tuned.append({**names, **size, **measures.row(model)})
            # Without a choice a later fit is wanted more than all before it.
            score = row["validation_score"] if select else float(len(rows))
            yield _Point(found.options.lambda_z, score, found.nonzero_fraction, found, row)
            started = time.perf_counter()

    limit = max_nonzero_fraction if select else None
    best, sparse_enough = best_candidate(measured(), limit)
    if not sparse_enough:
        warnings.warn(
            f"no point of the path has at most {limit:.1%} non-zero weights; the sparsest, "
            f"lambda_z={best.lambda_z:g}, is kept: begin the path at a larger value",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    return MeasuredPath(tuple(rows), tuple(tuned), (best.fit, best.row), seconds)


def write_path(
    path: MeasuredPath,
    pruned: Sequence[Row],
    teacher: Teacher,
    measures: Measures,
    directory: RunDirectory,
    console: Reporter,
) -> Row:
    """Write path.csv, path.json and path.png, show the table.

    Returns:
        The teacher's own row.
    """
    total = parameter_count(teacher.model)
    own: Row = {
        "method": "teacher",
        "nonzeros": count_nonzeros(teacher.model),
        "parameters": total,
        "labels": True,
        **measures.row(teacher.model),
    }
    sim, tuned = (
        [{**row, "zeros": 1 - row["nonzeros"] / total} for row in rows]
        for rows in (path.rows, path.tuned)
    )
    chosen = next(row for row, one in zip(sim, path.rows, strict=True) if one is path.best[1])
    axis = "nonzeros_asked" if "nonzeros_asked" in chosen else "lambda_z"
    rows = [*sim, *tuned, *pruned]
    directory.write_table("path.csv", rows)
    directory.write_json(
        "path.json",
        {
            "teacher": own,
            "seconds": path.seconds,
            f"kept_{axis}": chosen[axis],
            "points": sim,
            "finetuned": tuned,
            "pruning": list(pruned),
        },
    )
    key = f"test_{measures.score}"
    figure = path_figure(
        rows,
        score=key,
        teacher=own[key],
        teacher_nonzeros=own["nonzeros"],
        teacher_parameters=total,
        chosen=chosen,
    )
    directory.save_figure("path.png", figure)
    _show(sim, [*tuned, *pruned], own, chosen, axis, key, console)
    return own


def _show(
    sim: Sequence[Row],
    others: Sequence[Row],
    own: Row,
    chosen: Row,
    axis: str,
    key: str,
    console: Reporter,
) -> None:
    """A table of the path, then one of what was trained on with labels or pruned."""
    every = max(1, -(-len(sim) // _SHOWN))
    listed = [row for i, row in enumerate(sim) if row is chosen or (len(sim) - 1 - i) % every == 0]
    what = "lambda" if axis == "lambda_z" else "non-zeros"
    title = f"path of {what}" + ("" if every == 1 else f", every {every}. of {len(sim)}")
    titles = {key: key.replace("_", " ")}
    of_certificates = {name: title for name, title in _CERTIFIED.items() if name in chosen}
    certified = "; proven: certified accuracy" if of_certificates else ""
    titles |= of_certificates
    console.table(
        f"{title} (all in path.csv{certified})",
        [
            axis.replace("nonzeros_asked", "asked"),
            "non-zeros",
            "zeros*",
            *titles.values(),
            "gap [A B]",
            "s",
            "",
        ],
        [
            (
                row[axis],
                row["nonzeros"],
                f"{row['zeros']:.1%}",
                *(row[name] for name in titles),
                "-" if row["ab_relative_gap"] is None else f"{row['ab_relative_gap']:.0e}",
                row["seconds_ab"] + row["seconds_equilibria"] + row["seconds_cd"],
                "kept" if row is chosen else "",
            )
            for row in listed
        ],
    )
    shares = {row["nonzeros"] for row in others if row["method"] != LABELS["magnitude"]}
    table = [("teacher", own["nonzeros"], "0.0%", own[key], "yes")]
    table += [
        (
            row["method"],
            row["nonzeros"],
            f"{row['zeros']:.1%}",
            row[key],
            "yes" if row["labels"] else "no",
        )
        for row in others
        if not shares or row["nonzeros"] in shares
    ]
    if others:
        console.table(
            "beside it",
            ["", "non-zeros", "zeros*", key.replace("_", " "), "labels used"],
            table,
        )
    console.message("* of as many weights and biases as the teacher has")
