"""Intervals that hold every state, for all inputs in a box."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.conditions import MONOTONE
from idl_cli.models.sparse.weights import SparseWeights

_STEPS = 50
_RELATIVE = 1e-12  # outward, beyond what rounding of sums of some thousands of terms can do


def state_box(
    weights: SparseWeights, low: np.ndarray, high: np.ndarray, within: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n,) of each state at its equilibrium, for every input between ``low`` and ``high``.

    One step maps a box that holds the equilibria to another that does. From the whole range of φ,
    sweeps make it smaller; where A is block triangular, the first sweep is interval propagation.

    Args:
        weights: whose blocks are in order where A is block triangular.
        low: of the inputs (p,), −∞ where they have no bound.
        high: of the inputs (p,).
        within: a bound of |x| that is known (n,).
    """
    offset_low, offset_high = _image(weights.B, low, high)
    offset_low, offset_high = offset_low + weights.state_bias, offset_high + weights.state_bias
    ends, names = weights.ends, weights.activations
    blocks = [
        (int(end - size), int(end), name)
        for end, size, name in zip(ends, weights.sizes, names, strict=True)
    ][::-1]
    highest = np.full(ends[-1], np.inf) if within is None else within.astype(np.float64)
    lowest = -highest
    for begin, end, name in blocks:
        part = slice(begin, end)
        whole = np.full(end - begin, np.inf)
        found = _activated(name, -whole, whole)
        lowest[part] = np.maximum(lowest[part], found[0])
        highest[part] = np.minimum(highest[part], found[1])
    for _step in range(1 if weights.is_triangular else _STEPS):
        before = lowest.copy(), highest.copy()
        for begin, end, name in blocks:
            part = slice(begin, end)
            fed_low, fed_high = _image(weights.A[part], lowest, highest)
            found = _activated(name, fed_low + offset_low[part], fed_high + offset_high[part])
            lowest[part] = np.maximum(lowest[part], found[0])
            highest[part] = np.minimum(highest[part], found[1])
        if all(map(np.array_equal, before, (lowest, highest))):
            break
    return lowest, highest


def _image(
    matrix: scipy.sparse.csr_matrix, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of matrix @ v for v in a box, rounded outward."""
    positive, negative = matrix.maximum(0).tocsr(), matrix.minimum(0).tocsr()
    positive.eliminate_zeros()
    negative.eliminate_zeros()
    smallest = positive @ low + negative @ high
    largest = positive @ high + negative @ low
    with np.errstate(invalid="ignore"):  # an infinite box stays infinite
        size = abs(matrix) @ np.where(np.isfinite(low) & np.isfinite(high), _size(low, high), 0.0)
    return smallest - _RELATIVE * size, largest + _RELATIVE * size


def _size(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    larger: np.ndarray = np.maximum(np.abs(low), np.abs(high))
    return larger


def _activated(name: str, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    activation = get_activation(name)
    with torch.no_grad():
        if name in MONOTONE:
            ends = [activation.function(torch.from_numpy(each)).numpy() for each in (low, high)]
            below, above = ends
        else:
            finite = np.isfinite(low) & np.isfinite(high)
            begin, end = np.where(finite, low, 0.0), np.where(finite, high, 0.0)
            middle = (begin + end) / 2
            radius = np.where(finite, (end - begin) / 2, np.inf) * activation.lipschitz
            value = activation.function(torch.from_numpy(middle)).numpy()
            below, above = value - radius, value + radius
    # φ of an infinite end is infinite, or a limit that torch may not know (softsign: NaN).
    return np.nan_to_num(below, nan=-np.inf, posinf=np.inf, neginf=-np.inf), np.nan_to_num(
        above, nan=np.inf, posinf=np.inf, neginf=-np.inf
    )
