"""Exponential moving average of the weights: what is validated and kept in place of the last ones.

Polyak and Juditsky (SIAM J. Control Optim. 30(4), 1992) average the iterates of a noisy descent;
with weights that fall off exponentially the early ones are forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from idl_cli.models.base import TrainableModel

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """w̄ ← d w̄ + (1-d) w after every optimiser step, d = min(decay, (1+t)/(10+t)).

    t counts the updates before; the first one takes the weights as they are, and while t is small
    so is the memory: the average never holds on to the start of a training. Buffers, such as
    running statistics of a batch normalisation, are those of the model.

    Rows in an l1 ball, kernels of a channel in one, and strictly triangular matrices are convex
    sets: averages of their members are members, and the projection before a use takes back rounding
    alone. Of A = L Rᵀ the factors are averaged, each in a convex set of its own, within which
    ‖L Rᵀ‖∞ ≤ κ; their product is not the average of the products. Zeros that all weights share
    stay zero.

    Args:
        model: whose weights are averaged; it is copied.
        decay: the largest d, in (0, 1); about 1/(1-decay) steps are remembered.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def update_(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
            count = int(updates)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))

        self._average = AveragedModel(model, multi_avg_fn=update_)
        self._average.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The model of the averaged weights, projected on its constraint set."""
        module: nn.Module = self._average.module
        if isinstance(module, TrainableModel):
            module.constrain_()
        return module

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self._average.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: the number of updates and the averaged weights."""
        return {
            "updates": int(self._average.n_averaged),
            "weights": self._average.module.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._average.n_averaged.fill_(state["updates"])
        self._average.module.load_state_dict(state["weights"])


def kept_weights(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights that the trainer's state stands for: averaged ones where there are any."""
    average = state.get("average")  # checkpoints of before averages have none
    weights: Mapping[str, Any] = state["model"] if average is None else average["weights"]
    return weights
