"""What every attack is called with, returns, and keeps while it searches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.ball import Ball, ValidRange
from idl_cli.evaluation.attacks.margins import AttackLoss, margins
from idl_cli.evaluation.metrics import predicted_classes

Predict = Callable[[Tensor], Tensor]
"""A model: inputs (b, ...) to logits (b, K), samples apart, differentiable in its inputs."""


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        inputs: the worst input found for each sample (b, ...), in its ball.
        margins: ŷ_label − max over the other classes at it (b,).
        broken: whether another class than the label is predicted there (b,), bool; a sample that is
            wrong without any perturbation counts.
    """

    inputs: Tensor
    margins: Tensor
    broken: Tensor


class Attack(Protocol):
    """Searches the ball around each sample for an input that is classified wrongly."""

    def __call__(
        self,
        model: Predict,
        inputs: Tensor,
        labels: Tensor,
        epsilon: Tensor | float,
        *,
        valid: ValidRange | None = None,
        generator: torch.Generator | None = None,
    ) -> AttackResult:
        """Attack a batch.

        Args:
            model: see ``Predict``; in evaluation mode, where it knows modes. Nothing is added to
                the gradients of its parameters.
            inputs: samples (b, ...) in the unit of the model's inputs, floating.
            labels: their classes (b,), int64.
            epsilon: how far each input may be changed, in that unit: see ``Ball.around``.
            valid: the range inputs must stay in, in that unit.
            generator: draws the starting points; torch's global one by default.
        """
        ...


class Search:
    """The worst input so far of each sample, and the samples that are not broken yet.

    Args:
        model: what is attacked.
        inputs: samples (b, ...).
        labels: their classes (b,).
        ball: what may be tried.
    """

    def __init__(self, model: Predict, inputs: Tensor, labels: Tensor, ball: Ball) -> None:
        self.ball = ball
        self.labels = labels
        self._model = model
        inputs = inputs.detach()
        logits = self._logits(inputs)
        self.inputs = inputs.clone()
        self.classes = logits.shape[1]
        self.margins = margins(logits, labels)
        self.broken = predicted_classes(logits) != labels

    @property
    def standing(self) -> Tensor:
        """Indices of the samples that are not broken yet."""
        return (~self.broken).nonzero().squeeze(1)

    def result(self) -> AttackResult:
        """Return what was found."""
        return AttackResult(self.inputs, self.margins, self.broken)

    def consider(self, inputs: Tensor, samples: Tensor) -> None:
        """Try inputs (k, ...) for those samples (k,)."""
        self._keep(inputs, self._logits(inputs), samples)

    def gradient(self, inputs: Tensor, samples: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        """Try inputs (k, ...); return the loss (k,) there and its gradient (k, ...).

        Where the gradient is no number it is 0: that sample stays where it is.
        """
        at = inputs.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._model(at)
            values = loss(logits, self.labels[samples])
            (gradient,) = torch.autograd.grad(values.sum(), at)
        self._keep(inputs, logits.detach(), samples)
        return values.detach(), gradient.nan_to_num(nan=0.0)

    def _keep(self, inputs: Tensor, logits: Tensor, samples: Tensor) -> None:
        labels = self.labels[samples]
        found = margins(logits, labels)
        broken = predicted_classes(logits) != labels
        better = (found < self.margins[samples]) | (broken & ~self.broken[samples])
        better &= broken | ~self.broken[samples]
        rows = samples[better]
        self.inputs[rows] = inputs.detach()[better]
        self.margins[rows] = found[better]
        self.broken[rows] = broken[better]

    @torch.no_grad()
    def _logits(self, inputs: Tensor) -> Tensor:
        return self._model(inputs)


class SearchingAttack(ABC):
    """An attack that is one search; a subclass says what is tried."""

    def __call__(
        self,
        model: Predict,
        inputs: Tensor,
        labels: Tensor,
        epsilon: Tensor | float,
        *,
        valid: ValidRange | None = None,
        generator: torch.Generator | None = None,
    ) -> AttackResult:
        """Attack a batch: see ``Attack``. Samples that are broken are left alone from then on."""
        search = Search(model, inputs, labels, Ball.around(inputs, epsilon, valid))
        self._try(search, epsilon, generator)
        return search.result()

    @abstractmethod
    def _try(
        self, search: Search, epsilon: Tensor | float, generator: torch.Generator | None
    ) -> None:
        """Look for worse inputs; the search keeps what it meets."""
