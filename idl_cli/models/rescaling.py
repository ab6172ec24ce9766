"""Diagonal similarity: the same predictions with a contraction for A.

For positively homogeneous φ (φ(s x) = s φ(x) for s > 0: ReLU, leaky ReLU, identity) and t > 0, the
model with S = diag(t)⁻¹ and (S A S⁻¹, S B, C S⁻¹, D) has the states S x and predicts the same (El
Ghaoui et al., "Implicit Deep Learning", SIAM J. Math. Data Sci. 3(3), 2021).
"""

from __future__ import annotations

from typing import overload

import scipy.sparse
import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.sparse.scaling import radius_below, rescaled


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
        proven = radius_below(scipy.sparse.csr_matrix(absolute.cpu().numpy()))
        raise UnsupportedModelError(
            f"the spectral radius of |A| is {radius:.6g} (at least {proven:.6g}, as Collatz and "
            f"Wielandt's quotients prove), not below kappa={kappa}: no diagonal "
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


@overload
def rescale(model: ImplicitModel, kappa: float) -> ImplicitModel: ...
@overload
def rescale(model: SparseImplicitModel, kappa: float) -> SparseImplicitModel: ...
def rescale(
    model: ImplicitModel | SparseImplicitModel, kappa: float
) -> ImplicitModel | SparseImplicitModel:
    """A model that predicts the same, with ‖A‖∞ ≤ κ.

    Args:
        model: with positively homogeneous activations; left as it is.
        kappa: in (0, 1).

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: the activation is not positively homogeneous, or the spectral radius
            of |A| is κ or more.
    """
    if isinstance(model, SparseImplicitModel):
        return _rescaled_sparse(model, kappa)
    if not model.activation.positively_homogeneous:
        raise UnsupportedModelError(
            f"activation {model.activation.name} is not positively homogeneous: scaling its states "
            "changes the predictions"
        )
    full = model.effective_weights()
    scale = contraction_scale(full.A, kappa)
    inverse = scale.reciprocal()
    has_bias = model.state_bias is not None
    return ImplicitModel.from_weights(
        _within(_scaled(full.A, inverse[:, None] * scale), kappa),
        _scaled(full.B, inverse[:, None]),
        _scaled(full.C, scale),
        None if model.D is None else full.D,
        state_bias=_scaled(full.state_bias, inverse) if has_bias else None,
        output_bias=full.output_bias if has_bias else None,
        activation=model.activation.name,
        kappa=kappa,
        # A strictly triangular A stays so, and keeps its exact solve in one sweep.
        well_posedness="triangular" if model.well_posedness == "triangular" else "linf",
        forward=model.forward_settings,
        backward=model.backward_settings,
    )


def _rescaled_sparse(model: SparseImplicitModel, kappa: float) -> SparseImplicitModel:
    dtype = model.state_bias.dtype
    limits = torch.finfo(dtype)
    # Room for the rounding of every entry to the dtype: row sums stay within κ.
    weights = rescaled(model.weights(), kappa * (1 - 2 * limits.eps))
    for matrix in (weights.A, weights.B, weights.C):
        size = abs(matrix.data)
        if size.size and (size.min() < limits.tiny or size.max() > limits.max):
            raise UnsupportedModelError(
                f"rescaled weights lie between {size.min():.1e} and {size.max():.1e}, which "
                f"{dtype} cannot hold; convert the model to float64"
            )
    return SparseImplicitModel.from_weights(weights, dtype).to(model.state_bias.device)


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
