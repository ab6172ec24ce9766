"""One pass of a model over samples, without gradient and without trace in the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError
from idl_cli.evaluation.metrics import Loss, make_metrics
from idl_cli.evaluation.over_ranks import Statistics, merge_statistics, merged_metrics


@runtime_checkable
class _CountsIterations(Protocol):
    @property
    def solve_statistics(self) -> Statistics | None: ...


def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    *,
    loss: Loss | None = None,
    group: Group | None = None,
) -> dict[str, float]:
    """Measure a model on all samples of a loader.

    Several ranks share the work where each has its own part of every batch (see ``BatchLoader``)
    and all call this; each returns the figures over the samples of all.

    The model runs in evaluation mode and is left in the modes it was in. Where it counts the
    iterations of its equilibrium solves, the count is reset first and belongs to this pass alone
    afterwards: read the counts of a training epoch before validating.

    Args:
        model: maps inputs (b, *input_shape) to outputs (b, output_dim).
        loader: batches of preprocessed inputs and targets.
        task: decides the metrics.
        loss: see ``make_metrics``.
        group: of the ranks; None for a single process.

    Returns:
        ``loss`` and ``accuracy`` (``top5_accuracy`` where there are many classes), or ``loss``,
        ``r2``, ``mse``, ``mae`` and ``mape``: definitions in ``metrics``; and what the model's
        ``solve_statistics`` sum up (``iterations_mean``, …). Warnings say where outputs are not
        finite, and which metrics mean less than they seem to.

    Raises:
        ArgumentError: the loader has no batches.
        ShapeError: the outputs do not have the shape (b, output_dim).
    """
    group = Group.single() if group is None else group
    metrics = make_metrics(task, loss)
    statistics = model.solve_statistics if isinstance(model, _CountsIterations) else None
    if statistics is not None:
        statistics.reset()
    empty = True
    with evaluation_mode(model), torch.no_grad():
        for inputs, targets in loader:
            empty = False
            if len(targets):  # this rank's part of a small batch may be empty
                metrics.update(model(inputs), targets)
    if empty:
        raise ArgumentError("there are no batches to evaluate on")
    solved = {}
    if statistics is not None:
        merge_statistics(statistics, group)
        solved = statistics.summary()
    merged = merged_metrics(metrics, make_metrics(task, loss), group)
    if group.is_main:
        for remark in merged.remarks():
            warnings.warn(remark, stacklevel=2)
    return {**merged.compute(), **solved}


def predict(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return the outputs of a model for batches of preprocessed inputs, on the CPU.

    Returns:
        Tensor (m, output_dim) in the batches' order.

    Raises:
        ArgumentError: there are no batches.
    """
    with evaluation_mode(model), torch.no_grad():
        outputs = [model(inputs).cpu() for inputs in batches]
    if not outputs:
        raise ArgumentError("there are no batches to predict from")
    return torch.cat(outputs)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode, and leave it in the modes that it was in."""
    # Module by module: a part that was frozen in evaluation mode must stay so.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
