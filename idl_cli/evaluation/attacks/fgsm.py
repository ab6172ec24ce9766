"""The fast gradient sign method (Goodfellow et al., ICLR 2015, arXiv 1412.6572)."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.ball import Ball, ValidRange
from idl_cli.evaluation.attacks.margins import LOSSES
from idl_cli.evaluation.attacks.options import FgsmOptions
from idl_cli.evaluation.attacks.search import AttackResult, Predict, Search


class Fgsm:
    """One step to the corner of the ball that the gradient's signs point to.

    For a linear model with two classes that corner is the worst input.
    """

    def __init__(self, options: FgsmOptions | None = None) -> None:
        self._options = options or FgsmOptions()

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
        """Attack a batch: see ``Attack``; nothing is drawn."""
        search = Search(model, inputs, labels, Ball.around(inputs, epsilon, valid))
        samples = search.standing
        if len(samples):
            at, ball = search.inputs[samples], search.ball.rows(samples)
            _, gradient = search.gradient(at, samples, LOSSES[self._options.loss])
            corner = torch.where(gradient > 0, ball.high, torch.where(gradient < 0, ball.low, at))
            search.consider(corner, samples)
        return search.result()
