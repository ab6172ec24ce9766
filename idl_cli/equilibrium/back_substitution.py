"""Exact equilibria for a strictly upper triangular A: one sweep, no tolerance.

State i depends on the states after it only, so x = φ(Ax + b) is solved from the last state to the
first, and the adjoint v = d ⊙ (g + Aᵀv) from the first to the last. Neighbouring states that do not
depend on each other are computed together: for the block form of a feed-forward network the blocks
found are its layers (MATH: a layer's weights sit on the first block super-diagonal).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation


def independent_blocks(matrix: Tensor) -> list[tuple[int, int]]:
    """Split the states into the fewest consecutive blocks [start, stop) with A zero inside each.

    Args:
        matrix: strictly upper triangular A (n, n).

    Returns:
        The blocks, last first; one for a zero matrix, n for a dense triangle.
    """
    depends = (matrix != 0).view(torch.uint8)
    # The first state that each state depends on; n where it depends on none.
    first = depends.argmax(dim=1).masked_fill_(depends.amax(dim=1) == 0, len(matrix))
    return blocks_of_firsts(first.tolist())


def blocks_of_firsts(first: Sequence[int]) -> list[tuple[int, int]]:
    """Do the same by the first state that each state depends on, n where it depends on none."""
    size = stop = len(first)
    blocks = []
    for state in range(size - 1, -1, -1):
        if first[state] < stop:
            blocks.append((state + 1, stop))
            stop = state + 1
    blocks.append((0, stop))
    return blocks


@torch.no_grad()
def solve_state(
    matrix: Tensor, offset: Tensor, activation: Activation, blocks: Sequence[tuple[int, int]]
) -> Tensor:
    """Return the x (m, n) with x = φ(Ax + b), by back-substitution.

    Args:
        matrix: strictly upper triangular A (n, n).
        offset: b for every sample (m, n).
        activation: φ.
        blocks: its ``independent_blocks``.
    """
    # State-major, so that each block is contiguous; a copy, where contiguous() would not make one
    # of a single sample.
    x = offset.t().clone(memory_format=torch.contiguous_format)
    for start, stop in blocks:
        z = torch.addmm(x[start:stop], matrix[start:stop, stop:], x[stop:])
        x[start:stop] = activation.in_place(z)
    return x.t().contiguous()


@torch.no_grad()
def solve_adjoint(
    matrix: Tensor, slopes: Tensor, gradient: Tensor, blocks: Sequence[tuple[int, int]]
) -> Tensor:
    """Return the v (m, n) with v = d ⊙ (g + Aᵀv), by forward substitution.

    Args:
        matrix: strictly upper triangular A (n, n).
        slopes: d = φ′(z) for every sample (m, n).
        gradient: g (m, n).
        blocks: its ``independent_blocks``.
    """
    v = gradient.t().clone(memory_format=torch.contiguous_format)
    slopes = slopes.t().contiguous()
    for start, stop in reversed(blocks):
        total = torch.addmm(v[start:stop], matrix[:start, start:stop].t(), v[:start])
        torch.mul(total, slopes[start:stop], out=v[start:stop])
    return v.t().contiguous()
