"""The one module that is differentiated: a batch's outputs, its summed loss and its weight."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from idl_cli.training.losses import SummedLoss
from idl_cli.training.robust.training import Robustness, standing
from idl_cli.training.settings import TrainerSettings


class BatchFigures(NamedTuple):
    """What a batch comes to.

    Attributes:
        outputs: (b, q); of no meaning where the batch is empty.
        loss: Σ wᵢ ℓᵢ.
        weight: Σ wᵢ.
        standing: samples that are right in their worst case, under a robust training.
    """

    outputs: Tensor
    loss: Tensor
    weight: Tensor
    standing: Tensor


class BatchLoss(nn.Module):
    """A model and its loss.

    Several ranks train through ``DistributedDataParallel``, which waits for a gradient of every
    parameter from each of them. A rank whose part of a batch is empty therefore returns a loss of 0
    that depends on all parameters, without running the model: not every module takes a batch of no
    samples.

    Args:
        model: maps inputs (b, *input_shape) to outputs (b, q).
        loss: see ``losses.make_loss``.
        settings: precision, and whether to compile the model.
        robustness: the worst case whose loss is mixed in; None for a plain training.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: SummedLoss,
        settings: TrainerSettings,
        robustness: Robustness | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._predict = torch.compile(model) if settings.compile else model
        self._loss = loss
        self._precision = settings.precision
        self._robustness = robustness

    def forward(self, inputs: Tensor, targets: Tensor, epoch: float = 0.0) -> BatchFigures:
        """Return what a batch comes to.

        Args:
            inputs: (b, *input_shape).
            targets: see ``losses``.
            epoch: passes made so far, fractions included.
        """
        if not len(targets):
            nothing = inputs.new_zeros(())
            return BatchFigures(inputs, self._nothing(), nothing, nothing)
        stage = None if self._robustness is None else self._robustness.stage(epoch)
        counts = stage is None or stage.clean_weight > 0
        with self._autocast(inputs.device), torch.set_grad_enabled(counts):
            outputs = self._predict(inputs)
        outputs = outputs.to(inputs.dtype)
        total, weight = self._loss(outputs, targets)
        right = outputs.new_zeros(()) if stage is None else standing(outputs, targets)
        if self._robustness is not None and stage is not None and stage.clean_weight < 1:
            with self._autocast(inputs.device):
                worst = self._robustness.worst_logits(self._model, inputs, targets, stage.epsilon)
            worst = worst.to(inputs.dtype)
            worst_total, weight = self._loss(worst, targets)
            clean = stage.clean_weight
            total = clean * total + (1 - clean) * worst_total if counts else worst_total
            right = standing(worst, targets)
        return BatchFigures(outputs, total, weight, right)

    def _nothing(self) -> Tensor:
        """Return a sum of no entry of any parameter: exactly 0, as is its gradient."""
        empty = [p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad]
        return torch.stack(empty).sum()

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()
