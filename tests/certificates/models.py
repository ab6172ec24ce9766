"""Small models whose bounds can be tried by brute force."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.problem import Judged, Problem
from idl_cli.certificates.region import InputUnit, Norm
from idl_cli.models.implicit import ImplicitModel

INPUTS, STATES, CLASSES = 5, 12, 4
KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "low_rank": {"rank": 3},
    "triangular": {"well_posedness": "triangular"},
    "tanh": {"activation": "tanh"},
    "abs": {"activation": "abs", "kappa": 0.6},
    "gelu": {"activation": "gelu", "kappa": 0.7},
    "softshrink": {"activation": "softshrink"},
}


def random_model(seed: int = 0, *, scale: float = 3.0, **changes: Any) -> ImplicitModel:
    """A model in float32 whose feedback is as strong as its constraint allows."""
    torch.manual_seed(seed)
    made = ImplicitModel(INPUTS, CLASSES, STATES, **changes)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5)
        if made.D is not None:
            made.D.mul_(0.1)
        made.constrain_()
    return made.eval()


def judged(model: ImplicitModel) -> Judged:
    """The model with its proof."""
    return Judged.of(Equation.of(model))


def unit(*, valid: tuple[float, float] | None = None) -> InputUnit:
    """Inputs of unequal deviations."""
    deviation = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5], dtype=torch.float64)
    return InputUnit(torch.linspace(-0.2, 0.3, INPUTS, dtype=torch.float64), deviation, valid)


def problem(
    model: ImplicitModel,
    values: Tensor,
    epsilon: float | Tensor,
    *,
    norm: Norm = "linf",
    valid: tuple[float, float] | None = None,
) -> Problem:
    """The classes that a model predicts, judged within ε."""
    judged_model, data = judged(model), unit(valid=valid)
    radii = torch.as_tensor(epsilon, dtype=torch.float64).expand(len(values)).clone()
    with torch.no_grad():
        classes = judged_model.equation.model(data.inputs(values)).argmax(1)
    return Problem(judged_model, data.region(values, radii, norm), classes)


def samples(count: int = 6, seed: int = 1) -> Tensor:
    """Values in [0, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, INPUTS, generator=generator, dtype=torch.float64)
