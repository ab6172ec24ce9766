"""Rounding outward in float64: what a sum of products may differ from its exact value.

A sum of k products, in any order and with or without fused operations, differs from the exact one
by at most γ_k times the sum of magnitudes, γ_k = k u / (1 − k u), u = 2⁻⁵³ (Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, §3.1). Bounds here use 2 k u and a few more operations,
and an absolute term for what underflows, which is far above it even where a processor flushes
subnormal numbers to zero. Where a number overflows, bounds become infinite or NaN, and a comparison
with NaN proves nothing.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

UNIT: Final = 2.0**-53
TINY: Final = 1e-290


def error_of(terms: int) -> float:
    """Relative error of a sum of ``terms`` products, with room for a few further operations."""
    return 2.0 * (terms + 8) * UNIT


def up(values: Tensor, terms: int = 1) -> Tensor:
    """An upper bound of exact sums of ``terms`` non-negative products, given as computed."""
    return values * (1 + 2 * error_of(terms)) + TINY


def above(values: Tensor) -> Tensor:
    """An upper bound of the exact result of one operation, given as computed."""
    return values + (values.abs() * (4 * UNIT) + TINY)


def below(values: Tensor) -> Tensor:
    """A lower bound of the exact result of one operation, given as computed."""
    return values - (values.abs() * (4 * UNIT) + TINY)
