"""What a training would cost: measured on a few steps that are thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from idl_cli.evaluation import evaluate
from idl_cli.training.trainer import Trainer

_TIMED_STEPS = 5
_MIB = 2**20


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a training.

    Early steps are timed; later ones may need more iterations as ‖A‖∞ grows, so the time is what
    the training takes if its equilibria stay as easy as they are at the start.

    Attributes:
        steps: optimiser steps in all.
        seconds_per_step: median of the timed steps.
        seconds: all steps and a validation pass an epoch.
        weights_bytes: parameters and buffers.
        gradients_bytes: one gradient a parameter.
        optimizer_bytes: the optimiser's moments.
        activations_bytes: tensors that one batch keeps for the backward pass.
        data_bytes: the samples held in memory.
        ranks: processes that train together; the bytes are those of each.
    """

    steps: int
    seconds_per_step: float
    seconds: float
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    data_bytes: int
    ranks: int = 1

    @property
    def bytes(self) -> int:
        """All of the above memory together."""
        return (
            self.weights_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.data_bytes
        )

    def described(self) -> dict[str, object]:
        """Return the estimate as named values for people."""
        return {
            "time": (
                f"{self.seconds:.3g} s ({self.steps} steps of"
                f" {1000 * self.seconds_per_step:.3g} ms, and validation)"
            ),
            "memory": f"{self.bytes / _MIB:.3g} MiB beside the interpreter and torch"
            + (f", on each of {self.ranks} ranks" if self.ranks > 1 else ""),
            "of which": ", ".join(
                f"{name} {value / _MIB:.3g} MiB"
                for name, value in (
                    ("weights", self.weights_bytes),
                    ("gradients", self.gradients_bytes),
                    ("optimizer", self.optimizer_bytes),
                    ("activations", self.activations_bytes),
                    ("data", self.data_bytes),
                )
            ),
        }


def estimate(trainer: Trainer, *, data_bytes: int) -> Estimate:
    """Make a few steps and measure them; the trainer is of no other use afterwards.

    Args:
        trainer: new; its model and optimiser are changed by the steps. All ranks call this.
        data_bytes: size of the samples held in memory.
    """
    accumulate = trainer.settings.accumulate
    batches = trainer.train_loader.iterate()
    activations, times = 0, []
    for number in range(1 + _TIMED_STEPS):
        group = list(islice(batches, accumulate))
        if not group:
            break
        if number == 0:  # the first step also pays for what is set up once: it is not timed
            activations = _saved_bytes(trainer, group)
        start = time.perf_counter()
        trainer.step(group)
        _synchronize(group)
        times.append(time.perf_counter() - start)
    per_step = statistics.median(times[1:] or times)
    steps = trainer.settings.epochs * trainer.steps_per_epoch
    validation = 0.0
    if trainer.validation_loader is not None:
        start = time.perf_counter()
        evaluate(trainer.model, trainer.validation_loader, trainer.task, group=trainer.group)
        validation = time.perf_counter() - start
    return Estimate(
        steps=steps,
        seconds_per_step=per_step,
        seconds=steps * per_step + trainer.settings.epochs * validation,
        weights_bytes=_bytes([*trainer.model.parameters(), *trainer.model.buffers()]),
        gradients_bytes=_bytes(p for p in trainer.model.parameters() if p.requires_grad),
        optimizer_bytes=_bytes(
            value
            for state in trainer.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ),
        activations_bytes=activations,
        data_bytes=data_bytes,
        ranks=trainer.group.size,
    )


def _saved_bytes(trainer: Trainer, group: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Count what one batch's graph keeps beside the parameters."""
    inputs, targets = group[0]
    if not len(targets):  # this rank's part of a small batch
        return 0
    storages = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        trainer.model(inputs)
    return total


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _synchronize(group: Sequence[tuple[Tensor, Tensor]]) -> None:
    if group[0][0].is_cuda:
        torch.cuda.synchronize(group[0][0].device)
