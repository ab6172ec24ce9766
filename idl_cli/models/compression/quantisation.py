"""Weights rounded to 8 bits with one step a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse
import torch

from idl_cli.models.sparse.weights import SparseWeights


def quantised(weights: SparseWeights, dtype: torch.dtype) -> SparseWeights:
    """A, B, C and D with every row a multiple, of at most 127, of a step of its own.

    Entries are rounded to nearest, and towards zero in a row whose l1 norm would grow: ‖A‖∞ does
    not. Biases are kept.

    Args:
        weights: to round.
        dtype: in which a step and its multiples are formed.
    """
    kind = np.float32 if dtype == torch.float32 else np.float64
    return replace(
        weights, **{name: _rounded(getattr(weights, name), kind) for name in ("A", "B", "C", "D")}
    )


def _rounded(matrix: scipy.sparse.csr_matrix, kind: type[np.floating]) -> scipy.sparse.csr_matrix:
    size = np.abs(matrix.data)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    largest, norms = np.zeros(matrix.shape[0]), np.zeros(matrix.shape[0])
    np.maximum.at(largest, rows, size)
    np.add.at(norms, rows, size)
    steps = (largest / 127).astype(kind)[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = np.where(steps > 0, size / steps, 0.0)
    nearest = np.minimum(np.round(exact), 127)
    grown = np.zeros(matrix.shape[0])
    np.add.at(grown, rows, nearest * steps)
    # The largest entry stays 127 steps, by which a reader knows the step.
    towards_zero = np.where(size == largest[rows], 127, np.floor(exact))
    codes = np.where((grown > norms)[rows], towards_zero, nearest)
    found = matrix.copy()
    found.data = (codes.astype(kind) * steps * np.sign(matrix.data).astype(kind)).astype(float)
    found.eliminate_zeros()
    return found
