"""What ``idl train`` and ``idl eval`` tell of forecasts and extrapolation, beside the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import nn

from idl_cli.analysis.error_curves import curve_of_rows, error_curves
from idl_cli.analysis.forecast_curves import forecast_curves
from idl_cli.assembly.compute import Compute, RunContext
from idl_cli.assembly.measure import METRIC_NAMES, Figures, evaluation_loader
from idl_cli.data.dataset import Dataset
from idl_cli.evaluation import predict
from idl_cli.evaluation.baseline import persistence_metrics
from idl_cli.evaluation.shift_evaluation import ERROR_MEANING, ShiftRow, evaluate_shifts
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory

SHIFT: Final = "shift"
"""Name of the section of ``summary.json`` and of the files ``shift.json``, ``.csv``, ``.png``."""

_SHOWN: Final = ("shift", "distance", *METRIC_NAMES, "iterations_mean", "unconverged_share")


@dataclass(frozen=True)
class SequenceReport:
    """What is added to a run's summary.

    Attributes:
        metrics: entries of ``metrics``.
        sections: top-level entries.
        beside: further rows of the table of figures: what any forecast has to beat.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    sections: Mapping[str, object] = field(default_factory=dict)
    beside: Figures = field(default_factory=dict)


def report_sequences(
    model: nn.Module, dataset: Dataset, batch_size: int, context: RunContext[object]
) -> SequenceReport:
    """Measure and draw what the data set asks for beyond its parts.

    A forecast gets the persistence forecast beside it and a plot; a data set with shifts is
    evaluated at each of them; what the data set assumed is repeated in the summary.

    Args:
        model: trained.
        dataset: the data set.
        batch_size: samples a batch.
        context: of the run.
    """
    compute, directory = context.compute, context.directory
    metrics: dict[str, float] = {}
    sections: dict[str, object] = {}
    beside: Figures = {}
    if dataset.assumptions:
        sections["assumptions"] = list(dataset.assumptions)
    if dataset.task.forecast is not None:
        persistence = persistence_metrics(dataset.test, dataset.task)
        metrics = {f"test_persistence_{name}": value for name, value in persistence.items()}
        beside = {"test, persistence": persistence}
        _draw_forecast(model, dataset, batch_size, compute, directory)
    if dataset.shifts is not None and dataset.shifts.values:
        rows = evaluate_shifts(
            model,
            dataset.shifts,
            dataset.task,
            lambda part: evaluation_loader(part, dataset, batch_size, compute),
        )
        _write_shifts(rows, dataset, directory)
        _show_shifts(rows, dataset, context.console)
        sections[SHIFT] = rows
    return SequenceReport(metrics, sections, beside)


def _draw_forecast(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int,
    compute: Compute,
    directory: RunDirectory,
) -> None:
    """Draw the last step of the horizon: the farthest one ahead."""
    task = dataset.task
    assert task.forecast is not None
    loader = evaluation_loader(dataset.test, dataset, batch_size, compute)
    outputs = predict(model, (inputs for inputs, _ in loader))
    truth, forecast = (
        (values if task.target_scaling is None else task.target_scaling.unscale(values))
        .double()
        .numpy()[:, -1]
        for values in (dataset.test.targets, outputs)
    )
    times = torch.arange(len(truth)).numpy() if dataset.times is None else dataset.times.test
    figure = forecast_curves(
        times,
        truth,
        forecast,
        time_label="sample" if dataset.times is None else dataset.times.label,
        target=task.forecast.target,
        step=task.forecast.horizon,
    )
    directory.save_figure("forecast.png", figure)


def _write_shifts(rows: Sequence[ShiftRow], dataset: Dataset, directory: RunDirectory) -> None:
    assert dataset.shifts is not None
    error_meaning = ERROR_MEANING[dataset.task.kind]
    directory.write_json(
        f"{SHIFT}.json",
        {
            "shift": dataset.shifts.meaning,
            "training_shift": dataset.shifts.training,
            "error": error_meaning,
            "rows": rows,
        },
    )
    directory.write_table(f"{SHIFT}.csv", rows)
    figure = error_curves(
        [curve_of_rows("model", rows)],
        training=dataset.shifts.training,
        shift_label=dataset.shifts.meaning,
        error_label=error_meaning,
    )
    directory.save_figure(f"{SHIFT}.png", figure)


def _show_shifts(rows: Sequence[ShiftRow], dataset: Dataset, console: Reporter) -> None:
    assert dataset.shifts is not None
    columns = [name for name in _SHOWN if any(name in row for row in rows)]
    table = [[row.get(name) for name in columns] for row in rows]
    console.table(
        f"beyond the training range: shift is the {dataset.shifts.meaning}", columns, table
    )
    worst = max((row.get("unconverged_share", 0.0) for row in rows), default=0.0)
    if worst > 0:
        console.warning(
            f"up to {worst:.2%} of the equilibria did not converge at a shift; raise"
            " model.forward.max_iter, or lower model.kappa"
        )
