"""Rows of a block as low rank plus sparse: the factors become states of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from idl_cli.models.sparse.weights import SparseWeights


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows [B A] of a block (size, p + n) = rest + left @ right.

    Attributes:
        rest: (size, p + n), of the states' old places.
        left: L (size, rank).
        right: Rᵀ (rank, p + n), of the states' old places.
        bias: (size,).
        activation: of the block.
    """

    rest: scipy.sparse.csr_matrix
    left: np.ndarray
    right: scipy.sparse.csr_matrix
    bias: np.ndarray
    activation: str


def with_factors(weights: SparseWeights, rank: int) -> SparseWeights:
    """The same model, with [B A] of each block written as E + L Rᵀ.

    z = Rᵀ[u, x] are ``rank`` states with the identity as activation, evaluated just before the
    block, and L their weights. E, the rest of a truncated singular value decomposition, is full at
    first and small: leaving weights out with a bound (``dropped``) makes it sparse. Blocks for
    which the factors would be no smaller than their rows stay as they are.

    Args:
        weights: strictly block triangular, blocks in order.
        rank: columns of L and R.
    """
    whole = scipy.sparse.hstack([weights.B, weights.A], "csr")
    blocks, begin = [], 0
    for end, name in zip(weights.ends.tolist(), weights.activations, strict=True):
        blocks.append(_factored(whole[begin:end], rank, weights.state_bias[begin:end], name))
        begin = end
    inputs, states = weights.B.shape[1], weights.A.shape[0]
    new_ends = np.cumsum([len(block.bias) + block.left.shape[1] for block in blocks])
    total = int(new_ends[-1])
    starts = [
        int(end) - len(block.bias) - block.left.shape[1]
        for end, block in zip(new_ends, blocks, strict=True)
    ]
    places = np.concatenate(
        [start + np.arange(len(block.bias)) for start, block in zip(starts, blocks, strict=True)]
    )
    moved = _selection(places, (states, total))
    rows_A, rows_B = [], []
    for start, block in zip(starts, blocks, strict=True):
        count = block.left.shape[1]
        factors = _selection(start + len(block.bias) + np.arange(count), (count, total))
        left = scipy.sparse.csr_matrix(block.left)
        rows_A += [block.rest[:, inputs:] @ moved + left @ factors, block.right[:, inputs:] @ moved]
        rows_B += [block.rest[:, :inputs], block.right[:, :inputs]]
    sizes = [each for block in blocks for each in (len(block.bias), block.left.shape[1])]
    names = [each for block in blocks for each in (block.activation, "identity")]
    biases = [each for block in blocks for each in (block.bias, np.zeros(block.left.shape[1]))]
    return replace(
        weights,
        A=scipy.sparse.vstack(rows_A, "csr"),
        B=scipy.sparse.vstack(rows_B, "csr"),
        C=(weights.C @ moved).tocsr(),
        state_bias=np.concatenate(biases),
        sizes=tuple(size for size in sizes if size),
        activations=tuple(name for name, size in zip(names, sizes, strict=True) if size),
    )


def _factored(
    rows: scipy.sparse.csr_matrix, rank: int, bias: np.ndarray, activation: str
) -> _Block:
    used = np.unique(rows.indices)
    own = rows[:, used].toarray()
    if rank >= min(own.shape) or rank * sum(own.shape) >= rows.nnz:
        nothing = scipy.sparse.csr_matrix((0, rows.shape[1]))
        return _Block(rows, np.zeros((len(bias), 0)), nothing, bias, activation)
    u, s, v = np.linalg.svd(own, full_matrices=False)
    left, right = u[:, :rank] * s[:rank], v[:rank]
    spread = _selection(used, (len(used), rows.shape[1]))
    rest = scipy.sparse.csr_matrix(own - left @ right) @ spread
    return _Block(rest, left, (scipy.sparse.csr_matrix(right) @ spread).tocsr(), bias, activation)


def _selection(places: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    """Row i has a one at places[i]."""
    return scipy.sparse.csr_matrix(
        (np.ones(len(places)), places, np.arange(len(places) + 1)), shape=shape
    )
