"""Solutions with (I − M)⁻¹ for a non-negative M, bounded from above with all rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from idl_cli.models.sparse.weights import SparseWeights

_EPS = np.finfo(np.float64).eps


def amplified(weights: SparseWeights, start: np.ndarray) -> np.ndarray:
    """An upper bound of (I − L|A|)⁻¹ L r for r ≥ 0, entry by entry; infinite where none is proven.

    L holds the Lipschitz constants of the activations: a change by r before φ moves the states by
    no more.

    Args:
        weights: whose blocks are in order where A is block triangular.
        start: r (n,).
    """
    absolute = _contraction(weights)
    start = weights.lipschitz * start
    if weights.is_triangular:
        # Sums and products of non-negative numbers: rounding is relative, and grows with a chain.
        result = start.astype(np.float64)
        for begin, end in _blocks(weights):
            result[begin:end] += absolute[begin:end] @ result
        return result * (1 + len(weights.sizes) * _rounding(absolute))
    return _bounded_solution(absolute, start)


def _bounded_solution(absolute: scipy.sparse.csr_matrix, start: np.ndarray) -> np.ndarray:
    """Any e with e ≥ |A| e + r bounds the solution: the computed one, made larger until it does."""
    nothing = np.full(len(start), np.inf)
    identity = scipy.sparse.eye_array(len(start), format="csc")
    try:
        factors = splu((identity - absolute).tocsc())
    except RuntimeError:  # exactly singular
        return nothing
    ones = factors.solve(np.ones(len(start)))
    found = factors.solve(start)
    up = 1 + _rounding(absolute)
    if not (np.isfinite(ones).all() and (ones > 0).all()):
        return nothing
    if not ((absolute @ ones) * up < ones).all():  # Collatz-Wielandt: ρ(|A|) < 1
        return nothing
    margin = float(np.abs(found).max(initial=0.0)) * 1e-12
    for _attempt in range(20):
        wider = found + margin * ones
        if (((absolute @ wider) * up + start) * up <= wider).all():
            return np.asarray(wider)
        margin = margin * 10 + np.finfo(np.float64).tiny
    return nothing


def influences(weights: SparseWeights) -> np.ndarray:
    """max_k (|C| (I − L|A|)⁻¹ L)_ki of each state: how far a change before φ moves an output (n,).

    A guide to which weights matter, not a bound.
    """
    absolute, outputs = _contraction(weights), abs(weights.C).toarray()
    if weights.is_triangular:
        for begin, end in reversed(list(_blocks(weights))):
            outputs += outputs[:, begin:end] @ absolute[begin:end]
    else:
        identity = scipy.sparse.eye_array(absolute.shape[0], format="csc")
        factors = splu((identity - absolute).tocsc())
        outputs = factors.solve(outputs.T.copy(), trans="T").T
    found: np.ndarray = np.abs(outputs).max(axis=0) * weights.lipschitz
    return found


def _contraction(weights: SparseWeights) -> scipy.sparse.csr_matrix:
    """L|A|."""
    return (scipy.sparse.diags_array(weights.lipschitz) @ abs(weights.A)).tocsr()


def _blocks(weights: SparseWeights) -> Iterator[tuple[int, int]]:
    """Begin and end of the blocks, in the order of their evaluation."""
    for end, size in zip(weights.ends[::-1], weights.sizes[::-1], strict=True):
        yield int(end - size), int(end)


def _rounding(matrix: scipy.sparse.csr_matrix) -> float:
    """Relative rounding of a product with it, with room."""
    longest = int(np.diff(matrix.indptr).max(initial=0))
    return float(2 * (longest + 4) * _EPS)
