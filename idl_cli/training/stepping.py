"""One optimiser step: loss → implicit gradient → mask → clip → step → constraint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.base import TrainableModel
from idl_cli.training.losses import SummedLoss
from idl_cli.training.recovery import NonFiniteRecovery
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.sparsity import SparsityMask

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepResult:
    """A step that was made.

    Attributes:
        loss: Σ wᵢ ℓᵢ over its samples.
        weight: Σ wᵢ.
        lr: learning rate it was made with.
        outputs: (outputs (b, q), targets) of each of its batches, without graph.
    """

    loss: float
    weight: float
    lr: float
    outputs: tuple[Batch, ...]


class Stepper:
    """Makes optimiser steps.

    Args:
        model: what is trained.
        optimizer: over its parameters.
        scheduler: of that optimiser.
        loss: see ``losses.make_loss``.
        settings: see ``TrainerSettings``.
        recovery: told of every step, finite or not.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Scheduler,
        loss: SummedLoss,
        settings: TrainerSettings,
        recovery: NonFiniteRecovery,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._loss = loss
        self._recovery = recovery
        self._precision = settings.precision
        self._clip_norm = math.inf if settings.clip_norm is None else settings.clip_norm
        self._forward = torch.compile(model) if settings.compile else model
        self._sparsity = SparsityMask(model) if settings.keep_sparsity else None
        self._gradients_checked = False

    def step(self, group: Sequence[Batch], where: str) -> StepResult | None:
        """Make one step on the exact mean loss over all samples of the group's batches.

        The gradient of the sum is accumulated and divided once by the total weight, so that
        batches of unequal size count by their samples.

        Args:
            group: batches of inputs and targets.
            where: epoch and step, for the messages.

        Returns:
            What was done; None if a loss or gradient was no number and the step was left out.

        Raises:
            NonFiniteError: it was no number, and ``on_nonfinite`` could not help.
            UnsupportedModelError: a parameter receives no gradient.
        """
        self._optimizer.zero_grad(set_to_none=True)
        total, weight = 0.0, 0.0
        outputs: list[Batch] = []
        for inputs, targets in group:
            with self._autocast(inputs.device):
                predicted = self._forward(inputs)
            predicted = predicted.to(inputs.dtype)
            batch_loss, batch_weight = self._loss(predicted, targets)
            if not torch.isfinite(batch_loss):
                self._leave_out(f"loss is {batch_loss.item()}", where)
                return None
            batch_loss.backward()  # type: ignore[no-untyped-call]
            total += batch_loss.item()
            weight += batch_weight.item()
            outputs.append((predicted.detach(), targets))
        self._check_gradients()
        norm = self._finish_gradients(weight)
        if not math.isfinite(norm):
            self._leave_out(f"gradient norm is {norm}", where)
            return None
        lr = self._scheduler.lr
        self._optimizer.step()
        self._scheduler.step()
        self._constrain()
        self._recovery.succeeded()
        return StepResult(total, weight, lr, tuple(outputs))

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _check_gradients(self) -> None:
        if self._gradients_checked:
            return
        without = [
            name for name, p in self._model.named_parameters() if p.requires_grad and p.grad is None
        ]
        if without:
            raise UnsupportedModelError(
                f"no gradient reaches {', '.join(without)}: the model's output does not depend on"
                " them, or a detach() or no_grad() cuts them off; freeze them with"
                " requires_grad_(False) if that is meant"
            )
        self._gradients_checked = True

    def _finish_gradients(self, weight: float) -> float:
        """Turn the gradient of the sum into that of the mean, mask it, clip it; return its norm."""
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        # Weight 0: only samples of classes that do not count, and a gradient of zeros.
        torch._foreach_mul_(gradients, 1 / weight if weight else 0.0)
        if self._sparsity is not None:
            self._sparsity.apply_to_gradients()
        return nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm).item()

    @torch.no_grad()
    def _constrain(self) -> None:
        if isinstance(self._model, TrainableModel):
            self._model.constrain_()
        if self._sparsity is not None:
            self._sparsity.apply_to_parameters()

    def _leave_out(self, what: str, where: str) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._recovery.failed(what, where)
