from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.differenced import Differenced
from idl_cli.models.rnn import ImplicitRNN

NUMBERS = {"target": 1, "input_scale": (2.0, 0.5), "mean": (0.25, 0.5), "scale": (0.1, 0.2)}


class Last(nn.Module):
    """Says the changes of the last step."""

    def forward(self, changes: Tensor) -> Tensor:
        return changes[:, -1]


def made(model: nn.Module) -> Differenced:
    return Differenced(model, **NUMBERS).double()


def windows() -> Tensor:
    return torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_forecast_is_the_last_value_plus_a_scaled_change() -> None:
    inputs = windows()
    last, before = inputs[:, -1], inputs[:, -2]
    changes = (last - before) / torch.tensor([2.0, 0.5], dtype=torch.float64)
    expected = last[:, 1:] + torch.tensor([0.25, 0.5], dtype=torch.float64)
    expected = expected + changes * torch.tensor([0.1, 0.2], dtype=torch.float64)
    torch.testing.assert_close(made(Last())(inputs), expected, rtol=0, atol=1e-7)


def test_the_level_of_the_series_moves_the_forecast_with_it() -> None:
    torch.manual_seed(0)
    model = made(ImplicitRNN(2, 2))
    level = torch.tensor([3.0, -40.0], dtype=torch.float64)
    torch.testing.assert_close(model(windows() + level), model(windows()) - 40.0)


def test_it_is_trained_as_the_model_inside() -> None:
    inside = ImplicitRNN(2, 2)
    model = made(inside)
    with torch.no_grad():
        inside.implicit_models()[0].A.fill_(1.0)
    model.constrain_()
    assert model.inf_norm_A() == pytest.approx(0.95)
    model(windows()).sum().backward()
    assert all(parameter.grad is not None for parameter in inside.parameters())
    assert model.solve_statistics is inside.solve_statistics
    assert model.constructor_arguments() == inside.constructor_arguments()
    assert set(model.state_dict()) == {f"model.{name}" for name in inside.state_dict()}


def test_a_model_without_constraint_or_counts_will_do() -> None:
    model = made(Last())
    model.constrain_()
    assert model.solve_statistics is None
    assert model.inf_norm_A() is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(samples, steps, 2\)"):
        made(Last())(windows()[:, :, :1])
    with pytest.raises(ArgumentError, match="target=2 of 2 features"):
        Differenced(Last(), **{**NUMBERS, "target": 2})
