"""The one module that is differentiated: a batch's outputs, its summed loss and its weight."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from idl_cli.training.losses import SummedLoss
from idl_cli.training.settings import TrainerSettings


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
    """

    def __init__(self, model: nn.Module, loss: SummedLoss, settings: TrainerSettings) -> None:
        super().__init__()
        self._predict = torch.compile(model) if settings.compile else model
        self._loss = loss
        self._precision = settings.precision

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return outputs (b, q), Σ wᵢ ℓᵢ and Σ wᵢ; outputs of an empty batch are of no meaning."""
        if not len(targets):
            return inputs, self._nothing(), inputs.new_zeros(())
        with self._autocast(inputs.device):
            outputs = self._predict(inputs)
        outputs = outputs.to(inputs.dtype)
        total, weight = self._loss(outputs, targets)
        return outputs, total, weight

    def _nothing(self) -> Tensor:
        """Return a sum of no entry of any parameter: exactly 0, as is its gradient."""
        empty = [p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad]
        return torch.stack(empty).sum()

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()
