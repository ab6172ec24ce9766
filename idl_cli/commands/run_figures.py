"""What a run came to, for its report: headline figures, tables, and everything else in small."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from idl_cli.analysis.columns import text
from idl_cli.analysis.comparison import flatten
from idl_cli.analysis.pages import Cell, Fact, Facts, Table
from idl_cli.commands.page_parts import duration, score
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
_OF_POINT: Final = {
    "method": "method",
    "lambda_z": "λ_z",
    "nonzeros": "weights",
    "nonzero_fraction": "non-zeros",
    "ab_status": "[A B]",
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
        yield Fact("non-zero weights", f"{100 * float(str(sim['nonzero_fraction'])):.1f} %")
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


def path_tables(path: Path) -> Iterator[Table]:
    """The points of a path of λ, where the run trained along one."""
    try:
        with (path / "path.csv").open(newline="", encoding="utf-8") as file:
            points = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return
    columns = {
        name: head
        for name, head in _OF_POINT.items()
        if any((point.get(name) or "") != "" for point in points)
    }
    rows = [[Cell(_number(point.get(name) or "", name)) for name in columns] for point in points]
    numeric = [name not in ("method", "ab_status") for name in columns]
    yield Table("Along the path of λ", list(columns.values()), rows, numeric)


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
