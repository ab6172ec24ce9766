"""What a finished state-driven training leaves behind: the model, its figures, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from idl_cli.analysis.sim_plots import gap_curves, sparsity_pattern
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.scores import SimScores, named_metrics
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.commands.sim.tables import result_rows, show_rows
from idl_cli.loggers import RunLogger
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, read_metrics
from idl_cli.sim.fit.diagnosis import RowDiagnosis, diagnose
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.selection import Candidate
from idl_cli.sim.sim import SIM
from idl_cli.sim.states.recording import Recording


def measure(
    sim: SIM, found: Fit, teacher: Teacher, scores: SimScores, logger: RunLogger
) -> tuple[dict[str, float], dict[str, float]]:
    """Score the model on every part of the dataset, and log the figures.

    Args:
        sim: holds the model.
        found: the fit that is kept.
        teacher: whose dataset it is.
        scores: how.
        logger: told of each part.

    Returns:
        The figures of the test part with the teacher's beside them, and ``metrics``.
    """
    dataset = teacher.dataset
    test = sim.evaluate(scores.batches(dataset.test), task=dataset.task)
    parts = {"train": scores.figures(found.model, dataset.train)}
    if dataset.validation is not None:
        parts["validation"] = scores.figures(found.model, dataset.validation)
    parts["test"] = {name: v for name, v in test.items() if not name.startswith("teacher_")}
    for part, figures in parts.items():
        logger.log({"step": 0, "epoch": None, "split": part, **figures})
    metrics = {
        f"{part}_{name}": value
        for part, figures in parts.items()
        for name, value in named_metrics(figures).items()
    }
    return dict(test), metrics


def save(sim: SIM, found: Fit, teacher: Teacher, directory: RunDirectory) -> None:
    """Write the model and draw how it was found."""
    dataset = teacher.dataset
    directory.save_model(found.model, preprocessing=dataset.preprocessing, task=dataset.task)
    directory.save_figure("gap.png", gap_curves(read_metrics(directory.path), sim.options.tol))
    directory.save_figure("sparsity.png", sparsity_pattern(found.model))


def complete_report(
    report: dict[str, Any],
    settings: SimSettings,
    solver_name: str,
    teacher: Teacher,
    candidates: Sequence[Candidate],
    path: dict[str, object] | None,
) -> dict[str, Any]:
    """Add to what ``sim`` holds in summary.json what only the command knows.

    Args:
        report: of the SIM; changed.
        settings: of the run.
        solver_name: of the solver that solved.
        teacher: where it came from.
        candidates: of the choice of λ; empty where there was none.
        path: of the path of λ; None where there was none.
    """
    report["solver"] = solver_name
    report["teacher"] = {
        "name": settings.teacher["name"],
        "origin": teacher.origin,
        "seconds": teacher.seconds,
    }
    if path is not None:
        report["path"] = path
    if candidates:
        report["candidates"] = [
            {
                "lambda_z": each.lambda_z,
                "validation_score": each.score,
                "nonzero_fraction": each.nonzero_fraction,
            }
            for each in candidates
        ]
    return report


def show_result(report: dict[str, Any], test: dict[str, float], console: Reporter) -> None:
    """Show the model beside its teacher."""
    console.table("result", ["", "teacher", "implicit model"], result_rows(report, test))


def write_diagnosis(
    found: Fit, recording: Recording, directory: RunDirectory, console: Reporter
) -> None:
    """Write rows.json, and show the rows that stand out."""
    layout = recording.recorder.layout
    ab, cd = found.ab.solution, found.cd.solution
    stages: dict[str, tuple[RowDiagnosis, ...]] = {
        "ab": diagnose(ab.certificate, ab.weights, layout, stage="ab"),
        "cd": diagnose(cd.certificate, cd.weights, layout, stage="cd"),
    }
    rows = {name: [asdict(row) for row in each] for name, each in stages.items()}
    directory.write_json("rows.json", rows)
    show_rows(stages, console)
