"""The worst that interval bounds cannot exclude: certified training.

(Gowal et al. 2018, arXiv 1810.12715; through the equilibrium of the box as Davydov et al. 2022,
arXiv 2208.03889.)
"""

from __future__ import annotations

from torch import Tensor, nn

from idl_cli.evaluation.attacks import Ball
from idl_cli.models.interval import interval_problem, worst_logits


class Interval:
    """Upper bounds of ŷ_j − ŷ_label by intervals: the true worst case is no worse."""

    def problem(self, model: nn.Module) -> str | None:
        """Say why boxes do not go through the model."""
        if getattr(model, "dropout", 0):
            return f"bounds are those of all states; set model.dropout={model.dropout:g} to 0"
        return interval_problem(model)

    def __call__(self, model: nn.Module, inputs: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """Return the bounds (b, K)."""
        return worst_logits(model, ball.low, ball.high, labels)
