"""Magnitude pruning: exactly as many weights as asked for, and the largest ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from idl_cli.errors import ArgumentError
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros, prune_by_magnitude


def _models() -> list[nn.Module]:
    torch.manual_seed(0)
    models: list[nn.Module] = [
        MLP((8, 8), 3, hidden_dims=(7, 5)),
        CNN((1, 8, 8), 3, channels=(2, 3), hidden_dim=6),
        ImplicitModel(8, 3, hidden_dim=9),
    ]
    for model in models:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    return models


@pytest.mark.parametrize("model", _models(), ids=lambda model: type(model).__name__)
def test_exactly_as_many_are_left_and_the_largest(model: nn.Module) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for share in (1.0, 0.7, 0.31, 0.3):
        wanted = round(share * parameter_count(model))
        prune_by_magnitude(model, wanted)
        assert count_nonzeros(model) == wanted
    kept, pruned = [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert torch.equal(parameter, before[name])
            continue
        left = parameter != 0
        assert torch.equal(parameter[left], before[name][left])
        kept.append(before[name][left].abs())
        pruned.append(before[name][~left].abs())
    assert torch.cat(kept).min() >= torch.cat(pruned).max()


def test_ties_and_zeros_do_not_spoil_the_count() -> None:
    model = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.weight[:3] = 0.0
    for wanted, left in ((90, 70), (41, 41), (0, 0)):
        prune_by_magnitude(model, wanted)
        assert count_nonzeros(model) == left


def test_fewer_than_the_biases_are_refused() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(ArgumentError, match="biases, which are not pruned, are 3"):
        prune_by_magnitude(model, 2)
