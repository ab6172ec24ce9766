"""How much the outputs feel each state's pre-activation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.layout import batches_of_inputs
from idl_cli.sim.states.recording import Loader

_SAMPLES = 1000
"""A mean over a thousand samples is known to some per cent, far less than rows differ by."""
_STATES = 2**23
"""States that are held at once: 64 MB for their slopes in float64, and some times that."""


def output_sensitivity(
    model: ImplicitModel | FeedforwardConv, loader: Loader, loss: str
) -> tuple[Tensor, Tensor]:
    """How much the loss between the model's outputs and changed ones bends with each row.

    An error of z_i reaches the outputs through every state that it feeds: x = φ(Ax + e) with
    e = Bu + b, so that the outputs' derivative g_i with respect to e_i is the one with respect to
    z_i. Where the loss is the Kullback-Leibler divergence of class probabilities p, an error counts
    by their Fisher information F = diag(p) − ppᵀ (Amari, Natural gradient, 1998).

    Args:
        model: whose outputs are compared.
        loader: of its inputs; the first samples are used.
        loss: ``kl`` or ``mse``.

    Returns:
        E[gᵢᵀFgᵢ] of the states (n,) and E[F_jj] of the outputs (q,), float64; F = 1 for ``mse``.
    """
    like = next(model.parameters())
    states_total = torch.zeros(model.hidden_dim, dtype=torch.float64, device=like.device)
    outputs_total, count = states_total.new_zeros(model.output_dim), 0
    with torch.enable_grad():
        for inputs in _parts(batches_of_inputs(loader, _SAMPLES), model.hidden_dim):
            flat = inputs.flatten(1).to(like)
            if isinstance(model, FeedforwardConv):
                entering, outputs = _of_maps(model, flat)
            else:
                entering, outputs = _of_equilibrium(model, flat)
            if loss == "kl":
                root = _fisher_root(outputs.detach().softmax(dim=1))
            else:
                root = torch.diag_embed(torch.ones_like(outputs))
            for column in root.unbind(dim=2):
                # A product and a sum: autograd loads a large package before it takes a vector.
                felt = (outputs * column).sum()
                (slope,) = torch.autograd.grad(felt, entering, retain_graph=True)
                states_total += slope.double().square().sum(dim=0)
                outputs_total += column.double().square().sum(dim=0)
            count += len(inputs)
    return states_total / count, outputs_total / count


def _parts(batches: Iterable[Tensor], states: int) -> Iterator[Tensor]:
    """As many samples at a time as there is room for the states of."""
    for inputs in batches:
        yield from torch.split(inputs, max(1, _STATES // states))


def _of_equilibrium(model: ImplicitModel, flat: Tensor) -> tuple[Tensor, Tensor]:
    """What enters the states, e (m, n), and the outputs (m, q) as a function of it."""
    weights = model.effective_weights()
    entering = functional.linear(flat, weights.B, weights.state_bias).detach().requires_grad_()
    states = equilibrium(
        model.operator(),
        entering,
        model.activation,
        forward=model.forward_settings,
        backward=model.backward_settings,
    )
    direct = functional.linear(flat, weights.D, weights.output_bias)
    return entering, functional.linear(states, weights.C.detach()) + direct


def _of_maps(model: FeedforwardConv, flat: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a model of feature maps."""
    entering = model.injected(flat).detach().requires_grad_()
    return entering, model.read_out(model.solve(entering))


def _fisher_root(probabilities: Tensor) -> Tensor:
    """L (m, q, q) with L Lᵀ = diag(p) − ppᵀ, of the probabilities of each sample (m, q)."""
    root = probabilities.sqrt()
    return torch.diag_embed(root) - probabilities[:, :, None] * root[:, None, :]
