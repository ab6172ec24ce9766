"""Deep equilibrium models: the fixed point of a registered cell."""

import pytest
import torch

from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.cells import CELLS
from idl_cli.models.deq import DEQ

TIGHT = {"tol": 1e-12, "max_iter": 2000}


def made(cell: str) -> DEQ:
    torch.manual_seed(0)
    return DEQ(6, 2, hidden_dim=5, cell=cell, forward=TIGHT, backward=TIGHT).double()


@pytest.mark.parametrize("cell", CELLS)
def test_it_reads_out_the_fixed_point_of_its_cell(cell: str) -> None:
    model, u = made(cell), torch.randn(4, 2, 3).double()
    x = torch.zeros(4, 5).double()
    for _ in range(300):  # both cells contract at the start
        x = model.equilibrium.cell(x, u.flatten(1))
    torch.testing.assert_close(model(u), model.readout(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(model(u[:1]), model(u)[:1], atol=1e-10, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_every_parameter_has_the_gradient_of_differences(cell: str) -> None:
    model, u = made(cell), torch.randn(3, 6).double()
    names = [name for name, _ in model.named_parameters()]

    def output(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, values, strict=True))
        result: torch.Tensor = torch.func.functional_call(model, given, (u,))
        return result

    assert torch.autograd.gradcheck(output, tuple(model.parameters()), fast_mode=True)


def test_it_is_made_again_of_its_arguments() -> None:
    model, u = made("tanh"), torch.randn(3, 6).double()
    again = DEQ(**model.constructor_arguments()).double()  # type: ignore[arg-type]
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(u), model(u), atol=0, rtol=0)


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"cell=.gated.*residual, tanh"):
        DEQ(6, 2, cell="gated")
    with pytest.raises(ArgumentError, match="hidden_dim=0"):
        DEQ(6, 2, hidden_dim=0)
    with pytest.raises(ShapeError, match="6 values a sample"):
        made("tanh")(torch.zeros(2, 5).double())
