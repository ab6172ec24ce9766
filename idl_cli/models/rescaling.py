"""Diagonal similarity: the same predictions with a contraction for A.

For positively homogeneous φ (φ(s x) = s φ(x) for s > 0: ReLU, leaky ReLU, identity) and t > 0, the
model with S = diag(t)⁻¹ and (S A S⁻¹, S B, C S⁻¹, D) has the states S x and predicts the same (El
Ghaoui et al., "Implicit Deep Learning", SIAM J. Math. Data Sci. 3(3), 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.implicit import ImplicitModel


def contraction_scale(A: Tensor, kappa: float) -> Tensor:
    """T = (I − |A|/κ)⁻¹ 1, with which diag(t)⁻¹ A diag(t) has row sums κ(1 − 1/t_i) < κ.

    It exists exactly when the spectral radius of |A| is below κ (Perron-Frobenius); t >= 1 then.

    Args:
        A: (n, n).
        kappa: in (0, 1).

    Returns:
        Tensor (n,) float64.

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: the spectral radius of |A| is κ or more: no diagonal scaling does it.
    """
    if not 0 < kappa < 1:
        raise ArgumentError(f"kappa={kappa} must be in (0, 1)")
    absolute = A.detach().double().abs()
    identity = torch.eye(len(A), dtype=torch.float64, device=A.device)
    solution, info = torch.linalg.solve_ex(identity - absolute / kappa, identity.new_ones(len(A)))
    scale: Tensor = solution
    # A positive t with |A| t < κ t proves that the spectral radius is below κ (Collatz-Wielandt).
    if (
        int(info) != 0
        or bool((scale < 0.5).any())
        or bool((absolute @ scale >= kappa * scale).any())
    ):
        radius = float(torch.linalg.eigvals(absolute).abs().max())
        raise UnsupportedModelError(
            f"the spectral radius of |A| is {radius:.6g}, not below kappa={kappa}: no diagonal "
            "rescaling gives ||A||_inf <= kappa; choose a larger kappa below 1, or rescale=false"
        )
    return scale


def rescale(model: ImplicitModel, kappa: float) -> ImplicitModel:
    """A model that predicts the same, with ‖A‖∞ ≤ κ.

    Args:
        model: with a positively homogeneous activation; left as it is.
        kappa: in (0, 1).

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: the activation is not positively homogeneous, or the spectral radius
            of |A| is κ or more.
    """
    if not model.activation.positively_homogeneous:
        raise UnsupportedModelError(
            f"activation {model.activation.name} is not positively homogeneous: scaling its states "
            "changes the predictions"
        )
    weights = model.effective_weights()
    scale = contraction_scale(weights.A, kappa).to(weights.A)
    has_bias = model.state_bias is not None
    return ImplicitModel.from_weights(
        weights.A * scale / scale[:, None],
        weights.B / scale[:, None],
        weights.C * scale,
        None if model.D is None else weights.D,
        state_bias=weights.state_bias / scale if has_bias else None,
        output_bias=weights.output_bias if has_bias else None,
        activation=model.activation.name,
        kappa=kappa,
        # A strictly triangular A stays so, and keeps its exact solve in one sweep.
        well_posedness="triangular" if model.well_posedness == "triangular" else "linf",
        forward=model.forward_settings,
        backward=model.backward_settings,
    )
