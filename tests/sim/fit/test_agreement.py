from __future__ import annotations

import pytest
import torch
from torch import nn

from idl_cli.sim.fit.agreement import agreement_with


def classifier(bias: float) -> nn.Linear:
    made = nn.Linear(4, 3)
    with torch.no_grad():
        made.bias[0] = bias
    return made


def test_outputs_that_are_not_finite_agree_with_nothing() -> None:
    batches = [(torch.randn(10, 4), torch.zeros(10))]
    sure, diverged = classifier(1e3), classifier(float("nan"))
    assert agreement_with(sure, sure, batches) == 1.0
    for teacher, model in ((sure, diverged), (diverged, sure), (diverged, diverged)):
        with pytest.warns(UserWarning, match="10 of 10 outputs are not finite"):
            assert agreement_with(teacher, model, batches) == 0.0
