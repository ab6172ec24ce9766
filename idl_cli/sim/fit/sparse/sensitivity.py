"""How much the outputs feel each state's pre-activation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.equilibrium.implicit_gradient import equilibrium
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.layout import batches_of_inputs
from idl_cli.sim.states.recording import Loader

_SAMPLES = 1000
"""A mean over a thousand samples is known to some per cent, far less than rows differ by."""


def output_sensitivity(model: ImplicitModel, loader: Loader) -> Tensor:
    """Σ_j E[(∂y_j/∂z_i)²] (n,) float64, over the first samples of a loader.

    An error of z_i reaches the outputs through every state that it feeds: x = φ(Ax + e) with
    e = Bu + b, so that the derivative with respect to e_i is the one with respect to z_i.
    """
    weights = model.effective_weights()
    total, count = torch.zeros(model.hidden_dim, dtype=torch.float64, device=weights.A.device), 0
    with torch.enable_grad():
        for inputs in batches_of_inputs(loader, _SAMPLES):
            flat = inputs.flatten(1).to(weights.B)
            entering = functional.linear(flat, weights.B, weights.state_bias).detach()
            entering.requires_grad_()
            states = equilibrium(
                model.operator(),
                entering,
                model.activation,
                forward=model.forward_settings,
                backward=model.backward_settings,
            )
            outputs = functional.linear(states, weights.C.detach())
            for index in range(outputs.shape[1]):
                (slope,) = torch.autograd.grad(outputs[:, index].sum(), entering, retain_graph=True)
                total += slope.double().square().sum(dim=0)
            count += len(inputs)
    return total / count
