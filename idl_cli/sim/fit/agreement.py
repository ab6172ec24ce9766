"""A model beside its teacher: the batches both are measured on, and how often they agree."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from idl_cli.data.task import Task
from idl_cli.errors import ArgumentError
from idl_cli.evaluation.metrics import predicted_classes
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.states.layout import as_tensor, on_device_of


def agreement_with(
    teacher: nn.Module, model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Share of the loader's samples to which both give the same class.

    Outputs without a class (see ``predicted_classes``) agree with nothing; a warning counts them.

    Args:
        teacher: gives logits (m, K).
        model: gives logits (m, K).
        loader: batches of (inputs, …).

    Raises:
        ArgumentError: the loader has no samples.
    """
    same, count, undefined = 0, 0, 0
    with left_as_found(teacher), left_as_found(model):
        for inputs, _ in loader:
            classes = predicted_classes(model(on_device_of(model, inputs)))
            expected = predicted_classes(teacher(on_device_of(teacher, inputs))).to(classes.device)
            known = (classes >= 0) & (expected >= 0)
            same += int((known & (classes == expected)).sum())
            undefined += int((~known).sum())
            count += len(inputs)
    if count == 0:
        raise ArgumentError("the loader has no samples to compare on")
    if undefined:
        warnings.warn(
            f"{undefined:,} of {count:,} outputs are not finite; they agree with nothing",
            stacklevel=2,
        )
    return same / count


def pairs(
    loader: Iterable[object], network: nn.Module | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of the loader's batches, on the device and in the dtype of a network."""
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise ArgumentError(
                f"the loader gives {type(batch).__name__}; to evaluate, it must give tuples or "
                "lists (inputs, targets)"
            )
        inputs, targets = as_tensor(batch[0]), as_tensor(batch[1])
        if network is not None:
            inputs = on_device_of(network, inputs)
            targets = targets.to(inputs.device)
        yield inputs, targets


def task_of(loader: Iterable[tuple[Tensor, Tensor]], output_dim: int) -> Task:
    """A classification for whole numbers as targets, a regression for real ones."""
    for inputs, targets in loader:
        kind = "regression" if targets.is_floating_point() else "classification"
        return Task(
            kind="regression" if kind == "regression" else "classification",
            input_shape=tuple(inputs.shape[1:]),
            output_dim=output_dim,
        )
    raise ArgumentError("the loader has no samples to evaluate on")
