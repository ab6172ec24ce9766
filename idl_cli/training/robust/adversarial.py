"""The worst that an attack finds: adversarial training (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idl_cli.evaluation.attacks import Ball
from idl_cli.evaluation.attacks.margins import LOSSES
from idl_cli.evaluation.attacks.pgd import climb
from idl_cli.evaluation.attacks.search import Search
from idl_cli.evaluation.attacks.steps import Constant
from idl_cli.training.robust.settings import PerturbationSettings


class Adversarial:
    """Logits at the end of projected gradient steps from a random point: the true worst is worse.

    Starting points come from torch's global generator, whose state a checkpoint holds.
    """

    def __init__(self, settings: PerturbationSettings) -> None:
        self._settings = settings

    def problem(self, model: nn.Module) -> str | None:
        """Nothing: every model with a gradient can be attacked."""
        return None

    def __call__(self, model: nn.Module, inputs: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """Return the logits (b, K)."""
        search = Search(model, inputs, labels, ball)
        everyone = torch.arange(len(inputs), device=inputs.device)
        last = climb(
            search,
            ball.uniform(None),
            everyone,
            LOSSES["cross_entropy"],
            Constant(),
            self._settings.attack_steps,
        )
        logits: Tensor = model(last)
        return logits
