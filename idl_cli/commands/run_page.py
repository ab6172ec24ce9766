"""``report.html`` of a run: what it left behind, on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from idl_cli import __version__
from idl_cli.analysis.columns import text
from idl_cli.analysis.comparison import flatten
from idl_cli.analysis.pages import Cell, Fact, Facts, Page, Picture, Table, render
from idl_cli.commands.entries import remembered_schemas, whole_configuration
from idl_cli.commands.page_parts import (
    changed_facts,
    configuration_facts,
    described,
    duration,
    environment_facts,
    now,
    score,
    shown_path,
)
from idl_cli.run import RunRecord, read_record

REPORT: Final = "report.html"
_LOG_LINES: Final = 60
_MOST_TILES: Final = 4
_PARTS: Final = ("train", "validation", "test")
_CAPTIONS: Final = {
    "learning_curves": "Loss and score by epoch; the vertical line marks the model that was kept",
    "iterations": "The equilibrium solves of the training part: iterations, largest residual, ‖A‖∞",
    "gap": "Relative duality gap of both problems against the time of their solver",
    "sparsity": "Which weights are not zero",
    "forecast": "Forecast and truth on the test part",
}
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
_WARNING: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (\w+) \S+: (.*)$")


def run_page(path: Path) -> str:
    """The report of the run in a directory, as HTML.

    Args:
        path: of the run, ended or not.
    """
    record = read_record(path)
    schema_of = remembered_schemas()
    keys = whole_configuration(record.command, record.config, schema_of)
    log = _log(path)
    title = _title(record, keys)
    seconds = duration(record.summary.get("seconds"))
    return render(
        Page(
            kind=f"idl {record.command}" if record.command else "idl",
            title=title,
            subtitle=" · ".join(part for part in (shown_path(path), now(), seconds) if part),
            status=record.status,
            version=__version__,
            headline=list(_headline(record)),
            error=record.error,
            warnings=list(dict.fromkeys(_warnings(log))),
            tables=list(_tables(record)),
            details=list(_details(record)),
            pictures=pictures(path, _CAPTIONS),
            changed=changed_facts(record.command, keys, schema_of),
            configuration=configuration_facts(keys),
            environment=environment_facts(path),
            log=_end_of(log),
        )
    )


def _title(record: RunRecord, keys: Mapping[str, object]) -> str:
    measured = _section(record.summary, "eval")
    if measured.get("run") and measured.get("dataset"):
        return f"{Path(str(measured['run'])).name} on {measured['dataset']}"
    return described(keys) or record.path.name


def pictures(path: Path, captions: Mapping[str, str]) -> list[Picture]:
    """The figures of a directory, those with a caption first."""
    files = {file.stem: file for file in sorted(path.glob("*.png"))}
    names = [
        *(name for name in captions if name in files),
        *(n for n in files if n not in captions),
    ]
    return [
        Picture(captions.get(name, name.replace("_", " ")), files[name].read_bytes())
        for name in names
    ]


# -- figures ---------------------------------------------------------------------------------------


def _headline(record: RunRecord) -> Iterator[Fact]:
    metrics = _section(record.summary, "metrics")
    for name in ("accuracy", "r2", "mse", "loss"):
        if f"test_{name}" in metrics:
            train = metrics.get(f"train_{name}")
            note = f"train {score(name, train)}" if train is not None else ""
            yield Fact(f"test {name}", score(name, metrics[f"test_{name}"]), note)
    for name, value in list(_of_no_part(metrics).items())[:_MOST_TILES]:
        yield Fact(_words(name), score(name, value))
    sim = _section(record.summary, "sim")
    if sim:
        yield from _of_sim(sim)
    training = _section(record.summary, "training")
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
    first = _section(sim, "ab")
    if first:
        yield Fact("relative gap", text(first.get("relative_gap")), str(first.get("status", "")))
    if sim.get("inf_norm_A") is not None:
        yield Fact("‖A‖∞", text(sim["inf_norm_A"]))


def _tables(record: RunRecord) -> Iterator[Table]:
    metrics = _section(record.summary, "metrics")
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
    sim = _section(record.summary, "sim")
    stages = {stage: _section(sim, stage) for stage in _STAGES if _section(sim, stage)}
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


def _details(record: RunRecord) -> Iterator[Facts]:
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


def _section(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


# -- the log ---------------------------------------------------------------------------------------


def _log(path: Path) -> list[str]:
    try:
        return (path / "run.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _end_of(log: list[str]) -> list[str]:
    left = len(log) - _LOG_LINES
    return log if left <= 0 else [f"… {left} lines before these, in run.log", *log[left:]]


def _warnings(log: list[str]) -> Iterator[str]:
    for line in log:
        found = _WARNING.match(line)
        if found is not None and found[1] == "WARNING":
            yield found[2]
