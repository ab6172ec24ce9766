"""What a run came to, for its report: headline figures, tables, and everything else in small."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from idl_cli.analysis.columns import text
from idl_cli.analysis.comparison import flatten
from idl_cli.analysis.pages import Cell, Fact, Facts, Table
from idl_cli.reports.sections import duration, score
from idl_cli.run import RunRecord

_MOST_TILES: Final = 4
_PARTS: Final = ("train", "validation", "test")
_STAGES: Final = {"ab": "[A B], the states", "cd": "[C D], the outputs"}
_OF_STAGE: Final = {
    "status": "status",
    "relative_gap": "relative gap",
    "worst_row_gap": "worst row's gap",
    "kkt_residual": "KKT residual",
    "objective": "objective",
    "iterations": "iterations",
    "nonzero_fraction": "non-zeros",
}
_OF_EPSILON: Final = {
    "clean_accuracy": "clean",
    "attacked_accuracy": "attacked",
    "certified_accuracy": "certified",
    "ms_per_sample": "ms a sample",
}
_OF_POINT: Final = {
    "method": "method",
    "lambda_z": "λ_z",
    "nonzeros": "non-zeros",
    "nonzero_fraction": "of all weights",
    "ab_status": "[A B]",
    "cd_status": "[C D]",
    "ab_relative_gap": "relative gap",
    "state_fit": "state fit",
    "test_accuracy": "test accuracy",
    "test_r2": "test R²",
}


def headline(record: RunRecord) -> Iterator[Fact]:
    """The figures that matter most."""
    metrics = section_of(record.summary, "metrics")
    for name in ("accuracy", "r2", "mse", "loss"):
        if f"test_{name}" in metrics:
            train = metrics.get(f"train_{name}")
            note = f"train {score(name, train)}" if train is not None else ""
            yield Fact(f"test {name}", score(name, metrics[f"test_{name}"]), note)
    for name, value in list(_of_no_part(metrics).items())[:_MOST_TILES]:
        yield Fact(_words(name), score(name, value))
    sim = section_of(record.summary, "sim")
    if sim:
        yield from _of_sim(sim)
    training = section_of(record.summary, "training")
    if training.get("inf_norm_A") is not None:
        yield Fact("‖A‖∞", text(training["inf_norm_A"]))
    if training.get("epochs") is not None:
        best = training.get("best_epoch")
        note = f"kept: epoch {best}" if best is not None else ""
        yield Fact("epochs", text(training["epochs"]), note)
    if record.summary.get("seconds") is not None and record.status == "completed":
        yield Fact("time", duration(record.summary["seconds"]))


def _of_no_part(metrics: Mapping[str, object]) -> dict[str, object]:
    """Metrics that are not of the training, validation or test part."""
    prefixes = tuple(f"{part}_" for part in _PARTS)
    return {name: value for name, value in metrics.items() if not name.startswith(prefixes)}


def _of_sim(sim: Mapping[str, object]) -> Iterator[Fact]:
    if sim.get("teacher_test_accuracy") is not None:
        agreement = sim.get("agreement")
        note = f"agreement {score('agreement', agreement)}" if agreement is not None else ""
        yield Fact("teacher", score("accuracy", sim["teacher_test_accuracy"]), note)
    if sim.get("nonzero_fraction") is not None:
        yield Fact("non-zero weights", text(sim["nonzero_fraction"], "nonzero_fraction"))
    first = section_of(sim, "ab")
    if first:
        yield Fact("relative gap", text(first.get("relative_gap")), str(first.get("status", "")))
    if sim.get("inf_norm_A") is not None:
        yield Fact("‖A‖∞", text(sim["inf_norm_A"]))


def tables(record: RunRecord) -> Iterator[Table]:
    """The figures of every part, and the certificates of both convex problems."""
    metrics = section_of(record.summary, "metrics")
    parts = {
        part: {
            name.removeprefix(f"{part}_"): value
            for name, value in metrics.items()
            if name.startswith(f"{part}_")
        }
        for part in _PARTS
    }
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    if names:
        rows = [
            [Cell(part), *(Cell(text(values.get(name))) for name in names)]
            for part, values in parts.items()
            if values
        ]
        yield Table("Figures by part", ["", *names], rows, [False, *(True for _ in names)])
    yield from _certificates(section_of(record.summary, "certify"))
    sim = section_of(record.summary, "sim")
    stages = {stage: section_of(sim, stage) for stage in _STAGES if section_of(sim, stage)}
    if stages:
        columns = ["", *_OF_STAGE.values(), "seconds"]
        rows = [
            [
                Cell(_STAGES[stage]),
                *(Cell(text(values.get(name), name)) for name in _OF_STAGE),
                Cell(text(sim.get(f"seconds_{stage}"))),
            ]
            for stage, values in stages.items()
        ]
        numeric = [False, False, *(True for _ in columns[2:])]
        yield Table("The convex problems and their certificates", columns, rows, numeric)


def _certificates(certify: Mapping[str, object]) -> Iterator[Table]:
    """What is proven at every ε, and by which bound."""
    rows = certify.get("epsilons")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        return
    counts = [section_of(row, "decided_by") for row in rows]
    bounds = list(dict.fromkeys(name for each in counts for name in each))
    columns = ["ε", *_OF_EPSILON.values(), *(f"by {name}" for name in bounds)]
    cells = [
        [
            Cell(text(row.get("epsilon"))),
            *(Cell(text(row.get(name), name)) for name in _OF_EPSILON),
            *(Cell(text(count.get(name))) for name in bounds),
        ]
        for row, count in zip(rows, counts, strict=True)
    ]
    norm = {"linf": "l∞", "l2": "l2"}.get(str(certify.get("norm")), "")
    title = f"Certified robustness in {norm}, {text(certify.get('samples'))} test samples"
    yield Table(title, columns, cells, [True for _ in columns])


def path_tables(path: Path) -> Iterator[Table]:
    """The points of a path of λ and the pruned teachers beside it, where the run has such."""
    try:
        with (path / "path.csv").open(newline="", encoding="utf-8") as file:
            points = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return
    along = [point for point in points if point.get("lambda_z")]
    pruned = [point for point in points if not point.get("lambda_z")]
    if along:
        yield _points("Along the path of λ", along, _kept_point(path, along))
    if pruned:
        yield _points("The teacher pruned by magnitude", pruned, None)


def _points(title: str, points: Sequence[Mapping[str, str | None]], marked: int | None) -> Table:
    columns = {
        name: head
        for name, head in _OF_POINT.items()
        if len({point.get(name) or "" for point in points} - {""}) > (name == "method")
    }
    rows = [[Cell(_number(point.get(name) or "", name)) for name in columns] for point in points]
    numeric = [name not in ("method", "ab_status", "cd_status") for name in columns]
    return Table(title, list(columns.values()), rows, numeric, marked)


def _kept_point(path: Path, points: Sequence[Mapping[str, str | None]]) -> int | None:
    """Which point became the run's model."""
    try:
        kept = json.loads((path / "path.json").read_text(encoding="utf-8"))["kept_lambda_z"]
        return [float(point["lambda_z"] or "nan") for point in points].index(kept)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(said: str, name: str) -> str:
    try:
        return text(float(said), name)
    except ValueError:
        return said


def details(record: RunRecord) -> Iterator[Facts]:
    """The other numbers and words of the summary, section by section."""
    for name, section in record.summary.items():
        if not isinstance(section, Mapping):
            continue
        values = _of_no_part(section) if name == "metrics" else flatten(section)
        plain = {
            key: value
            for key, value in values.items()
            if isinstance(value, str | int | float) and key.partition(".")[0] not in _STAGES
        }
        if plain:
            pairs = [Fact(_words(key), text(value, key)) for key, value in plain.items()]
            yield Facts(_words(name).capitalize(), pairs)


def _words(key: str) -> str:
    return key.replace("_", " ").replace(".", ": ")


def section_of(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """A section of a summary; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
