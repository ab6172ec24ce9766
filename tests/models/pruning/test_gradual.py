"""Gradual pruning: the cubic schedule, and zeros that stay."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from idl_cli.errors import ArgumentError
from idl_cli.models.explicit import MLP
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros
from idl_cli.models.pruning.gradual import PRUNING, GradualPruning


@pytest.mark.parametrize("steps", [1, 3, 50, 1000])
def test_the_schedule_is_cubic_and_ends_at_the_size_asked_for(steps: int) -> None:
    torch.manual_seed(0)
    model = MLP((6,), 3, hidden_dims=(9,))
    total = parameter_count(model)
    wanted = total // 4
    pruning = GradualPruning(model, wanted, steps=steps)
    last, sizes, zeros = max(1, round(PRUNING * steps)), [], []
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        pruning.after_step(step)
        sizes.append(count_nonzeros(model))
        zeros.append(torch.cat([(p == 0).flatten() for p in model.parameters()]))
        expected = wanted + (total - wanted) * (1 - min(step / last, 1)) ** 3
        assert pruning.nonzeros_at(step) == round(expected)
    assert sizes[-1] == wanted
    assert sizes == sorted(sizes, reverse=True)
    assert all(bool((later >= earlier).all()) for earlier, later in pairwise(zeros))
    # Of 50 steps the 30 first prune: more than half of what goes is gone after a quarter of them.
    if steps == 50:
        assert sizes[7] < (total + wanted) / 2


def test_fewer_than_the_biases_are_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="biases"):
        GradualPruning(MLP((6,), 3, hidden_dims=(9,)), 11, steps=10)
