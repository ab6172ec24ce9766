"""Weights left out as long as no output can move further than a tolerance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse

from idl_cli.models.compression.bounds import Sizes, output_bound
from idl_cli.models.compression.sweeps import influences
from idl_cli.models.sparse.weights import SparseWeights

_HALVINGS = 24


def dropped(
    weights: SparseWeights, sizes: Sizes, tolerance: float
) -> tuple[SparseWeights, np.ndarray]:
    """The weights without those that matter least, and the proven bound (q,) of what that does.

    A weight's cost is how far leaving it out alone could move an output: the influence of its
    state, times its size, times the bound of what it multiplies. The cheapest are left out, as
    many as the bound of all together allows.

    Args:
        weights: to begin with.
        sizes: for the inputs in question.
        tolerance: largest change of any output.
    """
    influence = influences(weights)
    with np.errstate(invalid="ignore"):
        costs = {
            "A": _costs(weights.A, influence, sizes.states),
            "B": _costs(weights.B, influence, sizes.inputs),
            "C": _costs(weights.C, None, sizes.states),
            "D": _costs(weights.D, None, sizes.inputs),
        }
    order = np.sort(np.concatenate(list(costs.values())))
    keeps, drops = 0, len(order)  # the counts known to be allowed, and not
    best, bound = weights, np.zeros(weights.C.shape[0])
    if drops == 0 or tolerance <= 0:
        return best, bound
    # Costs alone bound the sum from above where influences are exact: a first guess.
    guess = int(np.searchsorted(np.cumsum(order), tolerance))
    for _halving in range(_HALVINGS):
        count = min(max(guess, keeps + 1), drops)
        found = _without(weights, costs, float(order[count - 1]))
        reached = output_bound(weights, found, sizes)
        if reached.max() <= tolerance:
            keeps, best, bound = count, found, reached
        else:
            drops = count - 1
        if keeps >= drops:
            break
        guess = (keeps + drops + 1) // 2
    return best, bound


def _costs(
    matrix: scipy.sparse.csr_matrix, influence: np.ndarray | None, sizes: np.ndarray
) -> np.ndarray:
    costs: np.ndarray = np.abs(matrix.data) * sizes[matrix.indices]
    if influence is not None:
        costs = costs * np.repeat(influence, np.diff(matrix.indptr))
    known: np.ndarray = np.nan_to_num(costs, nan=np.inf, posinf=np.inf)
    return known


def _without(weights: SparseWeights, costs: dict[str, np.ndarray], limit: float) -> SparseWeights:
    """The weights whose cost is above a limit."""
    kept = {}
    for name, each in costs.items():
        matrix = getattr(weights, name).copy()
        matrix.data = np.where(each > limit, matrix.data, 0.0)
        matrix.eliminate_zeros()
        kept[name] = matrix
    return replace(weights, **kept)
