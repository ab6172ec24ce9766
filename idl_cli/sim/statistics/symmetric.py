"""Symmetric sums, worked on and sent by their upper triangle: half of the operations and bytes.

A strip is some rows of the matrix from their diagonal on. Together the strips hold the upper
triangle and the lower one of the blocks on the diagonal; :func:`mirror_` fills in the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_WIDTH = 128  # rows of a strip: few waste little; these keep a matrix product at full speed
_STRIPS = 16  # of a large matrix, so that a GPU is not asked for thousands of thin products


def strips(matrix: Tensor) -> list[Tensor]:
    """The strips of a matrix (D, D), as views."""
    return [matrix[start:stop, start:] for start, stop in _bounds(matrix)]


def add_gram_(matrix: Tensor, features: Tensor) -> None:
    """Add SᵀS of features S (m, D) to the strips of ``matrix`` (D, D), of the same dtype."""
    for start, stop in _bounds(matrix):
        matrix[start:stop, start:].addmm_(features[:, start:stop].T, features[:, start:])


def mirror_(matrix: Tensor) -> None:
    """Make a matrix (D, D) whose strips are right symmetric, to the bit."""
    for start, stop in _bounds(matrix):
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        # A matrix product may round its (i, j) and (j, i) differently.
        block = matrix[start:stop, start:stop]
        block.copy_(block.triu() + block.triu(1).T)


def _bounds(matrix: Tensor) -> Iterator[tuple[int, int]]:
    size = len(matrix)
    width = max(_WIDTH, -(-size // _STRIPS))
    return ((start, min(start + width, size)) for start in range(0, size, width))
