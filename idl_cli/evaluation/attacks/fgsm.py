"""The fast gradient sign method (Goodfellow et al., ICLR 2015, arXiv 1412.6572)."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.margins import LOSSES
from idl_cli.evaluation.attacks.options import FgsmOptions
from idl_cli.evaluation.attacks.search import Search, SearchingAttack


class Fgsm(SearchingAttack):
    """One step to the corner of the ball that the gradient's signs point to.

    For a linear model with two classes that corner is the worst input.
    """

    def __init__(self, options: FgsmOptions | None = None) -> None:
        self._options = options or FgsmOptions()

    def _try(
        self, search: Search, epsilon: Tensor | float, generator: torch.Generator | None
    ) -> None:
        samples = search.standing
        if len(samples):
            at, ball = search.inputs[samples], search.ball.rows(samples)
            _, gradient = search.gradient(at, samples, LOSSES[self._options.loss])
            corner = torch.where(gradient > 0, ball.high, torch.where(gradient < 0, ball.low, at))
            search.consider(corner, samples)
