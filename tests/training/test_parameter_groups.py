"""Weight decay leaves alone what another rule keeps small."""

from typing import Any

import pytest
import torch
from torch import nn

from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN
from idl_cli.training import optimizers
from idl_cli.training.parameter_groups import decay_groups

_SIZES: dict[str, Any] = {"input_dim": 3, "output_dim": 2, "hidden_dim": 5}


def _shrunk(model: nn.Module) -> set[str]:
    """Which parameters a step of AdamW shrinks where the gradient is zero."""
    optimizer = optimizers.adamw(decay_groups(model), lr=0.1, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    shrunk = set()
    for name, parameter in model.named_parameters():
        if not parameter.equal(before[name]):
            torch.testing.assert_close(parameter.detach(), 0.95 * before[name])
            shrunk.add(name)
    return shrunk


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ImplicitModel(**_SIZES), {"B", "C", "D"}),
        (ImplicitModel(**_SIZES, rank=2), {"B", "C", "D"}),
        (ImplicitModel(**_SIZES, well_posedness="triangular"), {"A", "B", "C", "D"}),
        (ImplicitConv((6, 6), 2, channels=[2, 4], stride=1), {"B_0", "B_1", "C"}),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), {"0.weight"}),
    ],
    ids=["linf", "low rank", "triangular", "convolutions", "explicit"],
)
def test_matrices_decay_but_for_a_bounded_A(model: nn.Module, expected: set[str]) -> None:
    assert _shrunk(model) == expected


def test_the_cell_of_a_recurrence_is_looked_into() -> None:
    model = ImplicitRNN(3, 2, implicit_hidden_dim=5, hidden_dim=4)
    bounded = {name for name, _ in model.named_parameters() if name.split(".")[-1] == "A"}
    assert len(bounded) == 1
    assert not _shrunk(model) & bounded


def test_every_trained_parameter_is_in_one_group() -> None:
    model = ImplicitModel(**_SIZES)
    model.B.requires_grad_(False)
    grouped = [p for group in decay_groups(model) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p is not model.B}
    assert len(grouped) == len({id(p) for p in grouped})
