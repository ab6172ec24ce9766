"""Figures of a model on the parts of a data set: the same in every command, to the bit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from torch import nn

from idl_cli.assembly.compute import Compute
from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.evaluation import evaluate
from idl_cli.reporting import Reporter

METRIC_NAMES: Final = (
    "loss",
    "accuracy",
    "top5_accuracy",
    "r2",
    "mse",
    "mae",
    "mape",
    "nonfinite_outputs",
    "certified_accuracy",
    "attacked_accuracy",
)
"""Entries of an evaluation that belong into ``metrics``; the others tell of the solves."""

Figures = Mapping[str, Mapping[str, float]]
"""Part → name → value."""


def evaluation_loader(
    part: Split,
    dataset: Dataset,
    batch_size: int,
    compute: Compute,
    group: Group | None = None,
) -> BatchLoader:
    """Return the batches on which a part is measured, here and in ``idl eval``.

    Of a group of ranks, each draws its own part of every batch.
    """
    group = Group.single() if group is None else group
    return BatchLoader(
        part,
        batch_size,
        preprocessing=dataset.preprocessing,
        shuffle=False,
        seed=0,
        device=compute.device,
        dtype=compute.dtype,
        rank=group.rank,
        ranks=group.size,
    )


def timed_evaluation(
    model: nn.Module, loader: BatchLoader, task: Task, group: Group | None = None
) -> dict[str, float]:
    """Measure a model on a part: see ``evaluate``; with the wall-clock ``seconds`` it took."""
    start = time.perf_counter()
    figures = evaluate(model, loader, task, group=group)
    return {**figures, "seconds": time.perf_counter() - start}


def metrics_of(figures: Figures) -> dict[str, float]:
    """Return ``metrics`` of ``summary.json``: ``test_accuracy`` and the like."""
    return {
        f"{part}_{name}": value
        for part, values in figures.items()
        for name, value in values.items()
        if name in METRIC_NAMES
    }


def show_figures(
    title: str,
    figures: Figures,
    console: Reporter,
    samples: Mapping[str, int] | None = None,
) -> None:
    """Show a table of the parts' metrics, and where it is given of the number of their samples."""
    columns = [name for name in METRIC_NAMES if any(name in part for part in figures.values())]
    rows = [[part, *(values.get(name) for name in columns)] for part, values in figures.items()]
    if samples is None:
        console.table(title, ["part", *columns], rows)
        return
    counted = [[part, samples.get(str(part)), *rest] for part, *rest in rows]
    console.table(title, ["part", "samples", *columns], counted)
