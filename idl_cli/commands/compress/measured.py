"""The stages of a compression side by side: size, time, figures, changes and their bounds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.measure import METRIC_NAMES, evaluation_loader
from idl_cli.commands.compress.stages import Stage
from idl_cli.data.dataset import Dataset
from idl_cli.evaluation import evaluate
from idl_cli.reporting import Reporter

_MAIN = ("accuracy", "r2")


@dataclass(frozen=True)
class Measured:
    """What one stage is like.

    Attributes:
        label: of the stage.
        states: n.
        nonzeros: of all weights.
        stored_bytes: of the model's file.
        seconds: of the model over the test part.
        figures: on the test part.
        largest_change: of any output on the test part, from the run's model.
        proven_bound: of such a change, for all inputs within the range of the data.
        proven_classes: share of the test part whose class provably cannot have changed, by the
            margins of the run's model; None where there are no classes.
    """

    label: str
    states: int
    nonzeros: int
    stored_bytes: int
    seconds: float
    figures: Mapping[str, float]
    largest_change: float
    proven_bound: float
    proven_classes: float | None

    def to_dict(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


class _Kept(nn.Module):
    """Predicts as a model does, and keeps the outputs and the time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs: list[Tensor] = []
        self.seconds = 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        begin = time.perf_counter()
        found: Tensor = self.model(inputs)
        self.seconds += time.perf_counter() - begin
        self.outputs.append(found.double().cpu())
        return found


def measured(
    stages: Sequence[Stage], dataset: Dataset, batch_size: int, compute: Compute
) -> list[Measured]:
    """Measure each stage on the test part; the first is the run's model."""
    results: list[Measured] = []
    expected: Tensor | None = None
    for stage in stages:
        kept = _Kept(stage.model)
        loader = evaluation_loader(dataset.test, dataset, batch_size, compute)
        figures = evaluate(kept, loader, dataset.task)
        outputs = torch.cat(kept.outputs)
        expected = outputs if expected is None else expected
        classes = dataset.task.kind == "classification"
        results.append(
            Measured(
                label=stage.label,
                states=stage.weights.A.shape[0],
                nonzeros=stage.weights.nonzeros,
                stored_bytes=stage.stored_bytes,
                seconds=kept.seconds,
                figures=figures,
                largest_change=float((outputs - expected).abs().max()),
                proven_bound=float(stage.bound.max()),
                proven_classes=_proven(expected, stage.bound) if classes else None,
            )
        )
    return results


def _proven(outputs: Tensor, bound: np.ndarray) -> float:
    """Share of samples whose largest output stays so when each moves by its bound."""
    moves = torch.from_numpy(bound)
    best = outputs.argmax(dim=1, keepdim=True)
    certain = outputs.gather(1, best) - moves[best]
    rivals = (outputs + moves).scatter(1, best, -torch.inf)
    return float((certain > rivals.amax(dim=1, keepdim=True)).double().mean())


def show(title: str, results: Sequence[Measured], console: Reporter) -> None:
    """Show one line a stage."""
    main = next(name for name in _MAIN if name in results[0].figures)
    assert main in METRIC_NAMES
    columns = ["stage", "states", "non-zeros", "kB", "s", main, "change", "bound"]
    rows: list[list[object]] = [
        [
            each.label,
            each.states,
            each.nonzeros,
            each.stored_bytes / 1e3,
            each.seconds,
            each.figures[main],
            each.largest_change,
            each.proven_bound,
        ]
        for each in results
    ]
    if results[0].proven_classes is not None:
        columns.append("sure")
        rows = [[*row, each.proven_classes] for row, each in zip(rows, results, strict=True)]
    console.table(title, columns, rows)
