"""What a finished state-driven training leaves behind: the model, its figures, the report."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from idl_cli.analysis.sim_plots import gap_curves, sparsity_pattern
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.result_tables import result_rows, show_rows
from idl_cli.commands.sim.scores import SimScores, named_metrics
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.data.loader import BatchLoader
from idl_cli.loggers import RunLogger
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, read_metrics
from idl_cli.run.model_file import MODEL
from idl_cli.sim.fit.diagnosis import RowDiagnosis, diagnose
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.selection import Candidate
from idl_cli.sim.sim import SIM
from idl_cli.sim.states.convolution_recording import AnyRecording


def measure(
    sim: SIM,
    found: Fit,
    teacher: Teacher,
    scores: SimScores,
    logger: RunLogger,
    *,
    epoch: int | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Score the model on every part of the dataset, and log the figures.

    Args:
        sim: holds the model.
        found: the fit that is kept.
        teacher: whose dataset it is.
        scores: how.
        logger: told of each part.
        epoch: of the fine-tuning, after which the model is measured; None before.

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
        logger.log({"step": 0 if epoch is None else 1, "epoch": epoch, "split": part, **figures})
    metrics = {
        f"{part}_{name}": value
        for part, figures in parts.items()
        for name, value in named_metrics(figures).items()
    }
    return dict(test), metrics


def save(sim: SIM, found: Fit, teacher: Teacher, directory: RunDirectory) -> None:
    """Write the model and draw how it was found."""
    dataset = teacher.dataset
    name = "feedforward_conv" if isinstance(found.model, FeedforwardConv) else "implicit"
    directory.save_model(
        found.model, preprocessing=dataset.preprocessing, task=dataset.task, name=name
    )
    directory.save_figure("gap.png", gap_curves(read_metrics(directory.path), sim.options.tol))
    directory.save_figure("sparsity.png", sparsity_pattern(found.model))


def labels_section(
    trainer: Mapping[str, Any], tuned: Mapping[str, Any] | None, found: Fit
) -> dict[str, Any]:
    """What used labels, and what the fine-tuning changed of the model.

    Args:
        trainer: section of the settings.
        tuned: epochs, seconds and the figures before it; None without fine-tuning.
        found: with the model as it is kept. Its certificates are of the fit.
    """
    choosing = trainer["select_lambda"] is not None
    section: dict[str, Any] = {
        "labels_used_by": ["select_lambda"] * choosing + ["finetune_epochs"] * bool(tuned),
        "finetuning": tuned,
    }
    if tuned is not None:
        section |= {
            "nonzero_fraction": found.nonzero_fraction,
            "inf_norm_A": found.model.inf_norm_A(),
        }
        if found.options.nonzeros is not None:
            section["nonzeros"] = found.nonzeros
    return section


def cost(
    model: nn.Module, teacher: Teacher, directory: RunDirectory, scores: SimScores
) -> dict[str, float]:
    """Bytes of the model's file and of the teacher's weights, and seconds of a thousand samples.

    Args:
        model: saved in ``directory`` already.
        teacher: to compare with.
        directory: of the run.
        scores: whose test batches are predicted.
    """
    tensors = [*teacher.model.parameters(), *teacher.model.buffers()]
    batches = scores.batches(teacher.dataset.test)
    return {
        "model_bytes": (directory.path / f"{MODEL}.safetensors").stat().st_size,
        "teacher_bytes": sum(each.nbytes for each in tensors),
        "seconds_per_1000": _seconds_per_1000(model, batches),
        "teacher_seconds_per_1000": _seconds_per_1000(teacher.model, batches),
    }


@torch.no_grad()
def _seconds_per_1000(model: nn.Module, batches: BatchLoader) -> float:
    """Median over the batches, so that the first one's allocations do not count."""
    seconds = []
    for inputs, _ in batches:
        started = time.perf_counter()
        float(model(inputs).flatten()[0])  # waits for a GPU
        seconds.append(1000 * (time.perf_counter() - started) / len(inputs))
    return statistics.median(seconds)


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
    found: Fit,
    recording: AnyRecording,
    directory: RunDirectory,
    console: Reporter,
) -> None:
    """Write rows.json, and show the rows that stand out."""
    layout = recording.row_layout
    stages: dict[str, tuple[RowDiagnosis, ...]] = {
        "ab": diagnose(found.ab.solution, layout, stage="ab"),
        "cd": diagnose(found.cd.solution, layout, stage="cd"),
    }
    rows = {name: [asdict(row) for row in each] for name, each in stages.items()}
    directory.write_json("rows.json", rows)
    show_rows(stages, console)
