"""What a model made from a deep network's states predicts is the equilibrium of its weights."""

import pytest
import torch
from torch import nn

from idl_cli import SIM
from idl_cli.models.implicit import ImplicitModel

TIGHT = {"tol": 1e-15, "max_iter": 10000}


@pytest.mark.filterwarnings("ignore:.*with r2 below")  # 1e-3 shrinks some rows as far as that
@pytest.mark.parametrize("lambda_z", [1e-3, 1e-8])
def test_a_deep_model_predicts_its_own_equilibria(lambda_z: float) -> None:
    torch.manual_seed(3)
    layers: list[nn.Module] = [nn.Linear(6, 8, bias=False), nn.ReLU()]
    for _ in range(7):
        layers += [nn.Linear(8, 8, bias=False), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(8, 3, bias=False)).eval()
    for linear in net[::2]:
        nn.init.kaiming_normal_(linear.weight)
    inputs = torch.randn(300, 6)
    model = SIM(lambda_z=lambda_z, lambda_y=lambda_z).train(model=net, dataloader=[inputs])
    model.solve_statistics.reset()
    given = model.effective_weights()
    tight = ImplicitModel.from_weights(
        given.A.double(),
        given.B.double(),
        given.C.double(),
        given.D.double(),
        kappa=0.96,
        forward=TIGHT,
    )
    with torch.no_grad():
        x, wanted = model.equilibrium(inputs).double(), tight.equilibrium(inputs.double())
    assert model.solve_statistics.summary()["unconverged_share"] == 0
    A, B = given.A.double().abs(), given.B.double().abs()
    summed = wanted @ A.t() + inputs.double().abs() @ B.t()
    bound = torch.linalg.solve(torch.eye(len(A)).double() - A, summed.t()).t()
    # The model's tolerance is 1e-6, and float32 rounds as often as there are inputs and states.
    assert bool(((x - wanted).abs() <= 4e-6 * bound).all())
