"""Projected gradient with restarts (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.margins import LOSSES, AttackLoss
from idl_cli.evaluation.attacks.options import PgdOptions
from idl_cli.evaluation.attacks.search import Search, SearchingAttack
from idl_cli.evaluation.attacks.steps import RULES, StepRule


class Pgd(SearchingAttack):
    """Steps along the gradient's signs, projected on the ball, from several starting points.

    More restarts with the same generator never find less: the starting points of fewer come first.
    """

    def __init__(self, options: PgdOptions | None = None) -> None:
        self._options = options or PgdOptions()

    def _try(
        self, search: Search, epsilon: Tensor | float, generator: torch.Generator | None
    ) -> None:
        options = self._options
        start = search.inputs.clone()
        for restart in range(options.restarts):
            if restart:
                # Of all samples, so that what is drawn does not depend on which are broken.
                start = search.ball.uniform(generator)
            samples = search.standing
            climb(
                search, start, samples, LOSSES[options.loss], RULES[options.rule](), options.steps
            )


def climb(
    search: Search,
    start: Tensor,
    samples: Tensor,
    loss: AttackLoss,
    rule: StepRule,
    steps: int,
) -> Tensor:
    """Increase the loss of some samples by ``steps`` gradients; the search keeps what it meets.

    Args:
        search: knows the model and the balls.
        start: where each of all samples begins (b, ...).
        samples: which are attacked (k,).
        loss: of logits (k, K) and labels (k,).
        rule: how long steps are.
        steps: gradients.

    Returns:
        Where it ends (k, ...), which need not be the worst input met.
    """
    x = start[samples]
    if not len(samples):
        return x
    rule.start(x, search.ball.rows(samples), steps)
    for _ in range(steps):
        x = rule.next(*search.gradient(x, samples, loss))
    search.consider(x, samples)
    return x
