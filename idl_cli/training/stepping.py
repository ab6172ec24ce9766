"""One optimiser step: loss → implicit gradient → mask → clip → step → constraint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from idl_cli.distributed.group import Group
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.base import TrainableModel
from idl_cli.training.batch_loss import BatchLoss
from idl_cli.training.consensus import Consensus
from idl_cli.training.losses import SummedLoss
from idl_cli.training.recovery import NonFiniteRecovery
from idl_cli.training.robust.training import Robustness
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.sparsity import SparsityMask

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepResult:
    """A step that was made.

    Attributes:
        loss: Σ wᵢ ℓᵢ over the samples of all ranks.
        weight: Σ wᵢ over them.
        lr: learning rate it was made with.
        outputs: (outputs (b, q), targets) of each of this rank's batches, without graph; empty
            batches are left out.
        standing: this rank's samples that are right in their worst case, under a robust training.
    """

    loss: float
    weight: float
    lr: float
    outputs: tuple[Batch, ...]
    standing: float = 0.0


class Stepper:
    """Makes optimiser steps, the same ones on every rank.

    Args:
        model: what is trained; with several ranks, each has a copy.
        optimizer: over its parameters.
        scheduler: of that optimiser.
        loss: see ``losses.make_loss``.
        settings: see ``TrainerSettings``.
        recovery: told of every step, finite or not.
        consensus: of the ranks; sums a step's loss and weight over them.
        robustness: see ``BatchLoss``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer,
        scheduler: Scheduler,
        loss: SummedLoss,
        settings: TrainerSettings,
        recovery: NonFiniteRecovery,
        consensus: Consensus,
        robustness: Robustness | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._recovery = recovery
        self._ranks = consensus.group.size
        self._consensus = consensus
        self._clip_norm = math.inf if settings.clip_norm is None else settings.clip_norm
        self._batch_loss = _on_ranks(BatchLoss(model, loss, settings, robustness), consensus.group)
        self._sparsity = SparsityMask(model) if settings.keep_sparsity else None
        self._gradients_checked = False

    def step(self, group: Sequence[Batch], where: str, epoch: float = 0.0) -> StepResult | None:
        """Make one step on the exact mean loss over all samples of the group's batches.

        The gradient of the sum is accumulated, added up over the ranks and divided once by the
        total weight, so that batches of unequal size, and unequal parts of them, count by their
        samples.

        Args:
            group: batches of inputs and targets; of each, this rank's part.
            where: epoch and step, for the messages.
            epoch: passes made so far, fractions included.

        Returns:
            What was done; None if a loss or gradient was no number and the step was left out.

        Raises:
            NonFiniteError: it was no number, and ``on_nonfinite`` could not help.
            UnsupportedModelError: a parameter receives no gradient.
        """
        self._optimizer.zero_grad(set_to_none=True)
        buffers = [buffer.clone() for buffer in self._model.buffers()]
        total, weight, standing = 0.0, 0.0, 0.0
        outputs: list[Batch] = []
        for number, (inputs, targets) in enumerate(group, 1):
            last = number == len(group)
            with self._synchronized(last):
                with nullcontext() if self._sparsity is None else self._sparsity.kept():
                    predicted, loss, *counts = self._batch_loss(inputs, targets, epoch)
                figures = torch.stack((loss.detach(), *counts)).tolist()
                total, weight = total + figures[0], weight + figures[1]
                standing += figures[2]
                if last:
                    # All ranks have to know before the backward pass in which they meet.
                    total, weight = self._consensus.sum(total, weight)
                # The passes before it are made by all ranks or by none, whatever their losses.
                if not last or math.isfinite(total):
                    loss.backward()
            if len(targets):
                outputs.append((predicted.detach(), targets))
        if not math.isfinite(total):
            causes = self._consensus.group.gather_objects(_cause(group))  # one rank has the sample
            self._leave_out(buffers, f"loss is {total}{next(filter(None, causes), '')}", where)
            return None
        self._check_gradients()
        norm = self._finish_gradients(weight)
        if not math.isfinite(norm):
            self._leave_out(buffers, f"gradient norm is {norm}", where)
            return None
        lr = self._scheduler.lr
        self._optimizer.step()
        self._scheduler.step()
        self._constrain()
        self._recovery.succeeded()
        return StepResult(total, weight, lr, tuple(outputs), standing)

    def _synchronized(self, last: bool) -> AbstractContextManager[object]:
        """Add gradients up over the ranks in the last batch's backward pass alone."""
        if isinstance(self._batch_loss, DistributedDataParallel) and not last:
            return self._batch_loss.no_sync()
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
        # DistributedDataParallel leaves the sum over the ranks divided by their number.
        # Weight 0: only samples of classes that do not count, and a gradient of zeros.
        torch._foreach_mul_(gradients, self._ranks / weight if weight else 0.0)
        if self._sparsity is not None:
            self._sparsity.apply_to_gradients()
        return nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm).item()

    @torch.no_grad()
    def _constrain(self) -> None:
        if isinstance(self._model, TrainableModel):
            self._model.constrain_()
        if self._sparsity is not None:
            self._sparsity.apply_to_parameters()

    def _leave_out(self, buffers: Sequence[Tensor], what: str, where: str) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        # The forward pass has put the batch into running statistics already.
        for buffer, before in zip(self._model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self._recovery.failed(what, where)


def _cause(group: Sequence[Batch]) -> str:
    """Say that no smaller step would help where it is the data that are not finite."""
    for inputs, targets in group:
        if not bool(inputs.isfinite().all()):
            kind = str(inputs.dtype).removeprefix("torch.")
            return (
                f" (inputs are not finite in {kind}: normalise them, choose dtype=float64 or"
                " another unit)"
            )
        if not bool(targets.double().square().isfinite().all()):
            return " (the squares of targets are beyond float64: choose another unit)"
    return ""


def _on_ranks(module: BatchLoss, group: Group) -> nn.Module:
    """Return the module, wrapped where several ranks train it: one process pays for nothing."""
    if group.size == 1:
        return module
    return DistributedDataParallel(module, gradient_as_bucket_view=True)
