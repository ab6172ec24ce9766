"""Certified float64 weights become an ordinary implicit model of the dtype asked for."""

from __future__ import annotations

import warnings
from typing import TypeAlias

import torch
from torch import Tensor

from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import WellPosednessWarning
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.regression.problem import RowBudget
from idl_cli.sim.regression.rounding import round_feasible
from idl_cli.sim.regression.solver import LowRankFactors
from idl_cli.sim.states.layout import StateLayout

FittedModel: TypeAlias = ImplicitModel | FeedforwardConv
"""What a fit makes: full matrices, or the kernels of ``structure=convolution``."""
FORWARD = FixedPointSettings(tol=1e-6)
"""Tighter than a model's usual 1e-5: C magnifies what is left of the error in the small states of a
rescaled network's last layers. float32 reaches it."""


def assemble(
    ab: Tensor,
    cd: Tensor | None,
    layout: StateLayout,
    *,
    kappa: float,
    device: torch.device,
    factors: LowRankFactors | None = None,
    triangular: bool = False,
) -> ImplicitModel:
    """The implicit model of the weights of both stages.

    Args:
        ab: [A B], or [A B b] with biases, (n, D), as it shall be stored: in the model's dtype, and
            with a solver that honours the budget, rows of A within κ.
        cd: [C D], or [C D c], (q, D); None for a model that is only asked for equilibria.
        layout: of the states.
        kappa: κ of the model. Weights beyond it (a solver that ignores the budget) are kept: with
            ‖A‖∞ < 1 the model's κ becomes that norm, else nothing keeps the model well-posed.
        device: of the model.
        factors: A = L Rᵀ where a solver kept it so: the model then has these factors.
        triangular: A is strictly upper triangular and stays so: no norm keeps the model
            well-posed, and its states take one sweep.
    """
    if cd is None:
        cd = ab.new_zeros(layout.output_dim, ab.shape[1])
    n, p, dtype = layout.state_dim, layout.input_dim, ab.dtype
    norm = float(ab[:, :n].double().abs().sum(dim=1).max())
    kept: WellPosedness = "linf"
    bound = max(norm, kappa)
    if triangular:
        bound, kept = kappa, "triangular"
    elif bound >= 1:
        bound, kept = kappa, "none"
    has_bias = layout.has_bias
    with warnings.catch_warnings():
        # Whoever trains such a model tests it on data and says more than the constructor can.
        warnings.simplefilter("ignore", WellPosednessWarning)
        model = ImplicitModel.from_weights(
            ab[:, :n].to(device),
            ab[:, n : n + p].to(device, dtype),
            cd[:, :n].to(device, dtype),
            cd[:, n : n + p].to(device, dtype),
            state_bias=ab[:, -1].to(device, dtype) if has_bias else None,
            output_bias=cd[:, -1].to(device, dtype) if has_bias else None,
            activation=layout.activation.name,
            kappa=bound,
            well_posedness=kept,
            forward=FORWARD,
        )
    return model if factors is None else _factored(model, factors, kappa)


def _factored(model: ImplicitModel, factors: LowRankFactors, kappa: float) -> ImplicitModel:
    """The same model with A = L Rᵀ kept as two factors, each within √κ."""
    rank = factors.left.shape[1]
    result = ImplicitModel(
        model.input_dim,
        model.output_dim,
        model.hidden_dim,
        rank=rank,
        kappa=kappa,
        bias=model.state_bias is not None,
        activation=model.activation.name,
        forward=FORWARD,
    ).to(model.B)
    root = kappa**0.5
    dtype = model.B.dtype
    with torch.no_grad():
        # ‖L‖∞ ≤ κ and ‖Rᵀ‖∞ ≤ 1 become √κ each; the product is the same.
        result.L.copy_(round_feasible(factors.left / root, RowBudget(rank, root), dtype))
        transposed = round_feasible(
            factors.right.T * root, RowBudget(model.hidden_dim, root), dtype
        )
        result.R.copy_(transposed.T)
        for name, parameter in model.named_parameters():
            if name != "A":
                result.get_parameter(name).copy_(parameter)
    return result
