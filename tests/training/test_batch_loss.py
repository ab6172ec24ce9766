"""A loss of no samples: nothing is computed, and every parameter gets a gradient of zeros."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idl_cli.training.batch_loss import BatchLoss
from idl_cli.training.losses import cross_entropy_sum
from idl_cli.training.settings import TrainerSettings


class _RefusesNothing(nn.Module):
    """A model that cannot take an empty batch, with a weight that is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, float("nan")], [2.0, 3.0]]))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        assert len(inputs), "an empty batch"
        return inputs @ self.weight + self.frozen


def test_no_samples_give_zeros_for_every_parameter() -> None:
    model = _RefusesNothing()
    module = BatchLoss(model, cross_entropy_sum, TrainerSettings())
    _, loss, weight, _ = module(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert (loss.item(), weight.item()) == (0.0, 0.0)
    assert model.weight.grad is not None
    assert model.weight.grad.equal(torch.zeros(2, 2))
    assert model.frozen.grad is None


def test_samples_give_the_loss_of_the_model() -> None:
    model = nn.Linear(3, 2)
    inputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    module = BatchLoss(model, cross_entropy_sum, TrainerSettings())
    outputs, loss, weight, _ = module(inputs, targets)
    assert outputs.equal(model(inputs))
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(reduction="sum")(outputs, targets))
    assert weight.item() == 5
