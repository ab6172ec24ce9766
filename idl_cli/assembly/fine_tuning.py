"""Train a sparse network on with its zeros kept: labels are used here, whatever was before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.teacher_training import OneCycle, teacher_trainer
from idl_cli.data.dataset import Dataset
from idl_cli.models.options import TrainedTeacherOptions
from idl_cli.training.callbacks import Callbacks, StepReport


@dataclass(frozen=True)
class FineTuning(OneCycle):
    """How a sparse network is trained on; with 0 epochs it is not."""

    @classmethod
    def of(cls, epochs: int, teacher: Mapping[str, Any], seed: int) -> FineTuning:
        """As the teacher was trained; one that was not trained here, as teachers are by default."""
        usual = TrainedTeacherOptions
        return cls(
            epochs,
            int(teacher.get("batch_size", usual.batch_size)),
            float(teacher.get("lr", usual.lr)),
            seed,
        )


def fine_tune(
    model: nn.Module,
    dataset: Dataset,
    tuning: FineTuning,
    compute: Compute,
    *,
    prune: Callable[[int], Callable[[int], None]] | None = None,
) -> None:
    """Train in place; what is zero stays zero to the bit, and A in its set.

    Args:
        model: in evaluation mode afterwards.
        dataset: whose training part and labels are used.
        tuning: how.
        compute: device and dtype.
        prune: given the number of steps, what sets more weights to zero after each of them; None
            to keep the zeros there are.
    """
    trainer = teacher_trainer(
        model.requires_grad_(True), dataset, compute, tuning, keep_sparsity=True
    )
    steps = tuning.epochs * trainer.steps_per_epoch
    trainer.callbacks = _AfterSteps(model, None if prune is None else prune(steps))
    trainer.fit()
    model.eval()


class _AfterSteps(Callbacks):
    """Holds the zeros of offsets, which ``keep_sparsity`` leaves free, and prunes on."""

    def __init__(self, model: nn.Module, prune: Callable[[int], None] | None) -> None:
        vectors = [p for p in model.parameters() if p.ndim < 2]
        self._zeros = [(p, zeros) for p in vectors if bool((zeros := p.detach() == 0).any())]
        self._prune = prune

    @torch.no_grad()
    def on_step(self, report: StepReport) -> None:
        for parameter, zeros in self._zeros:
            parameter.masked_fill_(zeros, 0.0)
        if self._prune is not None:
            self._prune(report.step)
