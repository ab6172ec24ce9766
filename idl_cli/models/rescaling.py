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
    Where no state feeds back on itself (A strictly triangular, in any order of the states) the
    radius is 0, and t follows by substitution, layer after layer, without subtraction: exact to
    rounding in every entry however large it is.

    Args:
        A: (n, n).
        kappa: in (0, 1).

    Returns:
        Tensor (n,) float64.

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: the spectral radius of |A| is κ or more: no diagonal scaling does it;
            or t is beyond what float64 holds.
    """
    if not 0 < kappa < 1:
        raise ArgumentError(f"kappa={kappa} must be in (0, 1)")
    absolute = A.detach().double().abs()
    ones = absolute.new_ones(len(A))
    layers = _layers(absolute)
    if layers is not None:
        found = ones
        for _ in range(layers):
            found = 1 + absolute @ found / kappa
        require_scale(found)
        return found
    identity = torch.eye(len(A), dtype=torch.float64, device=A.device)
    solution, info = torch.linalg.solve_ex(identity - absolute / kappa, ones)
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


def require_scale(scale: Tensor) -> None:
    """Refuse a scale (n,) that overflowed.

    Raises:
        UnsupportedModelError: an entry is not finite.
    """
    if not bool(scale.isfinite().all()):
        raise UnsupportedModelError(
            "the network's layers multiply their norms beyond what float64 holds (1.8e308): its "
            "states cannot be rescaled; scale its weights down layer by layer, or rescale=false"
        )


def _layers(absolute: Tensor) -> int | None:
    """Length of the longest chain of states that feed one another; None where there is a cycle."""
    links = (absolute > 0).to(absolute)
    fed = torch.ones(len(absolute), dtype=torch.bool, device=absolute.device)
    for length in range(len(absolute) + 1):
        if not bool(fed.any()):
            return length
        following = links @ fed.to(absolute) > 0
        if torch.equal(following, fed):
            return None
        fed = following
    return None


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
    scale = contraction_scale(weights.A, kappa)
    inverse = scale.reciprocal()
    has_bias = model.state_bias is not None
    return ImplicitModel.from_weights(
        _within(_scaled(weights.A, inverse[:, None] * scale), kappa),
        _scaled(weights.B, inverse[:, None]),
        _scaled(weights.C, scale),
        None if model.D is None else weights.D,
        state_bias=_scaled(weights.state_bias, inverse) if has_bias else None,
        output_bias=weights.output_bias if has_bias else None,
        activation=model.activation.name,
        kappa=kappa,
        # A strictly triangular A stays so, and keeps its exact solve in one sweep.
        well_posedness="triangular" if model.well_posedness == "triangular" else "linf",
        forward=model.forward_settings,
        backward=model.backward_settings,
    )


def _scaled(weights: Tensor, factors: Tensor) -> Tensor:
    """Weights times factors, formed in float64, in their own dtype.

    Raises:
        UnsupportedModelError: the dtype cannot hold a product to its full precision.
    """
    exact = weights.double() * factors
    result = exact.to(weights.dtype)
    limits = torch.finfo(weights.dtype)
    size = exact.abs()
    lost = (size < limits.tiny) & (weights.abs() >= limits.tiny)
    if bool(lost.any()) or bool((size > limits.max).any()):
        raise UnsupportedModelError(
            f"rescaled weights lie between {float(size[size > 0].min()):.1e} and "
            f"{float(size.max()):.1e}, which {weights.dtype} cannot hold; convert the model to "
            "float64, or scale its weights down layer by layer"
        )
    return result


def _within(A: Tensor, kappa: float) -> Tensor:
    """A without the last digits by which rounding took a row's l1 norm above κ."""
    norms = A.double().abs().sum(dim=1)
    factor = torch.where(norms > kappa, kappa / norms * (1 - 4 * torch.finfo(A.dtype).eps), 1.0)
    return (A.double() * factor[:, None]).to(A.dtype)
