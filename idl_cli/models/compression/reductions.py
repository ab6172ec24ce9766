"""Reductions that change no prediction: fewer states for the same outputs, whatever the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from idl_cli.models.compression.boxes import state_box
from idl_cli.models.sparse.weights import SparseWeights


@dataclass(frozen=True)
class Reduced:
    """Smaller weights and why they are smaller.

    Attributes:
        weights: that predict the same.
        constant: states that had one value whatever the input; it went into the biases.
        unreachable: states that no output depends on.
        duplicate: states that always equal another, which took over their weights.
        unused_inputs: inputs that no state and no output depends on.
    """

    weights: SparseWeights
    constant: int = 0
    unreachable: int = 0
    duplicate: int = 0
    unused_inputs: int = 0


def reduced(weights: SparseWeights) -> Reduced:
    """Leave out constant, unreachable and duplicate states until there are none."""
    weights = without_zeros(weights)
    counts = {"constant": 0, "unreachable": 0, "duplicate": 0}
    steps: dict[str, Callable[[SparseWeights], SparseWeights]] = {
        "constant": _without_constant,
        "unreachable": _without_unreachable,
        "duplicate": _without_duplicates,
    }
    changed = True
    while changed:
        changed = False
        for name, step in steps.items():
            found = without_zeros(step(weights))
            fewer = weights.A.shape[0] - found.A.shape[0]
            counts[name] += fewer
            changed |= fewer > 0
            weights = found
    used = np.zeros(weights.B.shape[1], dtype=bool)
    used[weights.B.indices] = used[weights.D.indices] = True
    return Reduced(weights, **counts, unused_inputs=int((~used).sum()))


def without_zeros(weights: SparseWeights) -> SparseWeights:
    """The same weights without stored zeros."""
    matrices = {}
    for name in ("A", "B", "C", "D"):
        matrix = getattr(weights, name).copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        matrices[name] = matrix
    return replace(weights, **matrices)


def _without_constant(weights: SparseWeights) -> SparseWeights:
    """A state whose interval over all inputs is a point is an offset of what it feeds."""
    unbounded = np.full(weights.B.shape[1], np.inf)
    low, high = state_box(weights, -unbounded, unbounded)
    constant = (low == high) & np.isfinite(low)
    if constant.all():
        constant[0] = False  # a model has at least one state
    values = np.where(constant, low, 0.0)
    folded = replace(
        weights,
        state_bias=weights.state_bias + weights.A @ values,
        output_bias=weights.output_bias + weights.C @ values,
    )
    return _kept(folded, ~constant)


def _without_unreachable(weights: SparseWeights) -> SparseWeights:
    reached = np.zeros(weights.A.shape[0], dtype=bool)
    front = np.unique(weights.C.indices)
    while len(front):
        reached[front] = True
        following = np.unique(weights.A[front].indices)
        front = following[~reached[following]]
    if not reached.any():
        reached[0] = True  # a model has at least one state
    return _kept(weights, reached)


def _without_duplicates(weights: SparseWeights) -> SparseWeights:
    """Two states with one activation, one row of A and B and one bias are equal."""
    names = np.repeat(np.arange(len(weights.sizes)), weights.sizes)
    seen: dict[tuple[object, ...], int] = {}
    first = np.arange(weights.A.shape[0])
    for state in range(len(first)):
        key = (
            weights.activations[names[state]],
            float(weights.state_bias[state]),
            *_row(weights.A, state),
            *_row(weights.B, state),
        )
        first[state] = seen.setdefault(key, state)
    keep = first == np.arange(len(first))
    if keep.all():
        return weights
    places = np.cumsum(keep) - 1
    ones, rows = np.ones(len(first)), np.arange(len(first) + 1)
    merge = scipy.sparse.csr_matrix((ones, places[first], rows), shape=(len(first), keep.sum()))
    return _kept(
        replace(weights, A=weights.A @ merge, C=(weights.C @ merge).tocsr()), keep, merged=True
    )


def _row(matrix: scipy.sparse.csr_matrix, row: int) -> tuple[bytes, bytes]:
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[entries].tobytes(), matrix.data[entries].tobytes()


def _kept(weights: SparseWeights, states: np.ndarray, *, merged: bool = False) -> SparseWeights:
    """The weights of these states alone; ``merged``: columns are those states' already."""
    ends = np.cumsum(states)[weights.ends - 1]
    sizes = np.diff(ends, prepend=0)
    left = sizes > 0
    columns = slice(None) if merged else np.flatnonzero(states)
    rows = np.flatnonzero(states)
    return replace(
        weights,
        A=weights.A[rows][:, columns].tocsr(),
        B=weights.B[rows].tocsr(),
        C=weights.C[:, columns].tocsr(),
        state_bias=weights.state_bias[rows],
        sizes=tuple(sizes[left].tolist()),
        activations=tuple(np.array(weights.activations)[left].tolist()),
    )
