"""Several attacks one after the other, each on what the ones before left standing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.ball import ValidRange
from idl_cli.evaluation.attacks.search import Attack, AttackResult, Predict


class Strongest:
    """The worst that any of the attacks finds.

    Args:
        attacks: at least one; cheap ones first save time.
    """

    def __init__(self, attacks: Sequence[Attack]) -> None:
        assert attacks, "there is nothing to attack with"
        self._attacks = tuple(attacks)

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
        """Attack a batch: see ``Attack``."""
        first, *others = self._attacks
        found = first(model, inputs, labels, epsilon, valid=valid, generator=generator)
        per_sample = isinstance(epsilon, Tensor) and epsilon.dim() == inputs.dim()
        for attack in others:
            rows = (~found.broken).nonzero().squeeze(1)
            if not len(rows):
                break
            radius = epsilon
            if per_sample and isinstance(epsilon, Tensor):
                radius = epsilon.expand_as(inputs)[rows]
            other = attack(
                model, inputs[rows], labels[rows], radius, valid=valid, generator=generator
            )
            better = other.broken | (other.margins < found.margins[rows])
            worse = rows[better]
            found.inputs[worse] = other.inputs[better]
            found.margins[worse] = other.margins[better]
            found.broken[worse] = other.broken[better]
        return found
