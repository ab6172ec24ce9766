"""A model measured on samples ever farther from those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from torch import Tensor, nn

from idl_cli.data.split import Split
from idl_cli.data.synthetic.shifts import Shifts
from idl_cli.data.task import Task
from idl_cli.evaluation.loop import evaluate

ERROR_MEANING: Final = {
    "classification": "error rate (share of samples)",
    "regression": "normalised squared error 1 - R²",
}
"""What ``error`` of a row is, by the kind of the task."""

ShiftRow = dict[str, float]


def evaluate_shifts(
    model: nn.Module,
    shifts: Shifts,
    task: Task,
    loader_of: Callable[[Split], Iterable[tuple[Tensor, Tensor]]],
) -> list[ShiftRow]:
    """Measure a model at every shift f.

    Args:
        model: see ``evaluate``.
        shifts: the test parts.
        task: decides the metrics.
        loader_of: batches of preprocessed samples of a part.

    Returns:
        One row a shift: ``shift`` f, ``distance`` from the training range, ``error`` (see
        ``ERROR_MEANING``; 0 is perfect at every scale of the targets), what ``evaluate`` returns.
    """
    rows = []
    for shift in shifts.values:
        figures = evaluate(model, loader_of(shifts.make(shift)), task)
        score = figures["accuracy" if task.kind == "classification" else "r2"]
        rows.append(
            {"shift": shift, "distance": shifts.distance(shift), "error": 1.0 - score, **figures}
        )
    return rows
