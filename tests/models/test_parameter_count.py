import pytest
import torch
from torch import nn

from idl_cli.errors import ArgumentError
from idl_cli.models.parameter_count import nearest_width, parameter_count


def square(width: int) -> nn.Module:
    return nn.Linear(width, width, bias=False)


@pytest.mark.parametrize(
    ("target", "width"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 2), (7, 3), (90, 9), (91, 10)]
)
def test_the_nearest_square(target: int, width: int) -> None:
    assert nearest_width(square, target) == width


def test_no_weights_are_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    nearest_width(square, 10_000)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_parameters_do_not_count() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert parameter_count(model) == 6


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="smallest such network has 100 parameters"):
        nearest_width(lambda width: nn.Linear(100 * width, 1, bias=False), 20)
