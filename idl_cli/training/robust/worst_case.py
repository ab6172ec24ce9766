"""What a robust training minimises: the loss of the worst that a ball of inputs can do."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from idl_cli.evaluation.attacks import Ball


class WorstCase(Protocol):
    """Logits whose loss stands for all inputs of a ball."""

    def problem(self, model: nn.Module) -> str | None:
        """Say why the model cannot be trained in this way, None where it can."""
        ...

    def __call__(self, model: nn.Module, inputs: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """Return logits (b, K), in the graph of the model's parameters.

        Args:
            model: what is trained.
            inputs: samples (b, *input_shape).
            labels: their classes (b,).
            ball: around the samples.
        """
        ...
