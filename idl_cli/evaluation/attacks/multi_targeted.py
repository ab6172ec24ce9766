"""PGD towards every other class (Gowal et al. 2019, arXiv 1910.09338)."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.margins import class_margin
from idl_cli.evaluation.attacks.options import MultiTargetedOptions
from idl_cli.evaluation.attacks.pgd import climb
from idl_cli.evaluation.attacks.search import Search, SearchingAttack
from idl_cli.evaluation.attacks.steps import RULES


class MultiTargeted(SearchingAttack):
    """PGD on the margin over one class at a time.

    The margin over the most dangerous class is a minimum of smooth functions, in which an iteration
    is caught where two classes are equal; towards one class there is no such edge. A linear model's
    worst input, of any number of classes, is found exactly.
    """

    def __init__(self, options: MultiTargetedOptions | None = None) -> None:
        self._options = options or MultiTargetedOptions()

    def _try(
        self, search: Search, epsilon: Tensor | float, generator: torch.Generator | None
    ) -> None:
        options = self._options
        first = search.inputs.clone()
        for restart in range(options.restarts):
            start = search.ball.uniform(generator) if restart else first
            for offset in range(1, search.classes):
                samples = search.standing

                def loss(logits: Tensor, own: Tensor, offset: int = offset) -> Tensor:
                    return -class_margin(logits, own, (own + offset) % logits.shape[1])

                climb(search, start, samples, loss, RULES[options.rule](), options.steps)
