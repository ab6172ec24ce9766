"""Diagonal similarity of sparse weights: the same predictions with ‖A‖∞ ≤ κ.

See ``models.rescaling``, whose t = (I − |A|/κ)⁻¹ 1 this is, for A in compressed rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.sparse.weights import SparseWeights

_EPS = np.finfo(np.float64).eps
_POWER_STEPS = 1000


def rescaled(weights: SparseWeights, kappa: float) -> SparseWeights:
    """Weights that predict the same, with ‖A‖∞ < κ, in float64.

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: an activation is not positively homogeneous, or the spectral radius
            of |A| is not below κ, or not provably so; the message says which bound is proven.
    """
    others = sorted(
        {name for name in weights.activations if not ACTIVATION_FACTS[name].positively_homogeneous}
    )
    if others:
        raise UnsupportedModelError(
            f"activation {', '.join(others)} is not positively homogeneous: scaling its states "
            "changes the predictions"
        )
    scale = contraction_scale(weights.A, kappa)
    to, back = (scipy.sparse.diags_array(each).tocsr() for each in (1 / scale, scale))
    return replace(
        weights,
        A=(to @ weights.A @ back).tocsr(),
        B=(to @ weights.B).tocsr(),
        C=(weights.C @ back).tocsr(),
        state_bias=weights.state_bias / scale,
    )


def contraction_scale(A: scipy.sparse.csr_matrix, kappa: float) -> np.ndarray:
    """A t > 0 with |A| t < κ t, proven with all rounding: t = (I − |A|/κ)⁻¹ 1 up to rounding.

    Args:
        A: (n, n).
        kappa: in (0, 1).

    Returns:
        (n,) float64, all at least 1 up to rounding.

    Raises:
        ArgumentError: ``kappa`` is not in (0, 1).
        UnsupportedModelError: the spectral radius of |A| is κ or more, or too close to κ to tell.
    """
    if not 0 < kappa < 1:
        raise ArgumentError(f"kappa={kappa} must be in (0, 1)")
    absolute = abs(A).tocsr().astype(np.float64)
    ones = np.ones(absolute.shape[0])
    if is_acyclic(absolute):
        # Without subtraction: exact to rounding in every entry however large it is.
        scale = ones
        while True:
            with np.errstate(over="ignore"):
                found = 1 + absolute @ scale / kappa
            if not np.isfinite(found).all():
                raise UnsupportedModelError(
                    "the layers multiply their norms beyond what float64 holds (1.8e308): the "
                    "states cannot be rescaled; scale the weights down layer by layer"
                )
            if np.array_equal(found, scale):
                return scale
            scale = found
    try:
        identity = scipy.sparse.eye_array(len(ones), format="csc")
        scale = splu((identity - absolute / kappa).tocsc()).solve(ones)
    except RuntimeError:  # exactly singular
        scale = np.full_like(ones, np.nan)
    usable = np.isfinite(scale).all() and (scale > 0.5).all()
    if usable and radius_bound(absolute, scale) < kappa:
        return scale
    low = radius_below(absolute)
    proven = f"is at least {low:.6g}" if low >= kappa else f"is within rounding of {kappa}"
    raise UnsupportedModelError(
        f"the spectral radius of |A| {proven} (proven by Collatz and Wielandt's quotients), not "
        f"below kappa={kappa}: no diagonal rescaling gives ||A||_inf <= kappa; choose a larger "
        "kappa below 1"
    )


def is_acyclic(A: scipy.sparse.csr_matrix) -> bool:
    """Whether no state feeds back on itself, over however many others."""
    links = A.copy()
    links.eliminate_zeros()
    if links.diagonal().any():
        return False
    count, _ = connected_components(links, directed=True, connection="strong")
    return bool(count == links.shape[0])


def radius_bound(absolute: scipy.sparse.csr_matrix, t: np.ndarray) -> float:
    """A proven upper bound of ρ(|A|): max (|A| t)_i / t_i for t > 0, rounded up."""
    longest = int(np.diff(absolute.indptr).max(initial=0))
    product = (absolute @ t) * (1 + (longest + 4) * _EPS)
    return float((product / t).max(initial=0.0))


def radius_below(absolute: scipy.sparse.csr_matrix) -> float:
    """A proven lower bound of ρ(|A|): the best μ with |A| t ≥ μ t that power iteration finds."""
    longest = int(np.diff(absolute.indptr).max(initial=0))
    shifted = absolute + 0.5 * scipy.sparse.eye_array(absolute.shape[0])  # no period to circle in
    t, best = np.ones(absolute.shape[0]), 0.0
    for _step in range(_POWER_STEPS):
        t = shifted @ t
        t /= t.max()
        t[t < 1e-12] = 0  # states outside of the cycle that dominates
        kept = t > 0
        quotients = (absolute @ t)[kept] / t[kept] * (1 - (longest + 4) * _EPS)
        best = max(best, float(quotients.min()))
    return best
