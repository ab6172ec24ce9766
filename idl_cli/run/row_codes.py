"""Rows of a matrix as multiples of a step: one byte an entry, and the same bits again.

A row of weights that were rounded to 8 bits is code · step with |code| ≤ 127, its largest entry at
127 steps, in the matrix's own dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 127
_NEIGHBOURS = 2  # the largest entry over 127 gives the step up to two units in its last place


def coded(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """Codes (rows, columns) int8 and steps (rows,) of a matrix; None where it has no such form.

    Args:
        matrix: (rows, columns) float32 or float64, on the CPU.
    """
    if matrix.dim() != 2 or matrix.dtype not in (torch.float32, torch.float64):
        return None
    largest = matrix.abs().amax(dim=1) if matrix.shape[1] else matrix.new_zeros(len(matrix))
    if not bool(largest.isfinite().all()):
        return None
    candidates = [largest / _STEPS]
    for direction in (torch.inf, -torch.inf):
        step = candidates[0]
        for _ in range(_NEIGHBOURS):
            step = torch.nextafter(step, torch.full_like(step, direction))
            candidates.append(step.clamp(min=0))
    steps = candidates[0].clone()
    open_rows = torch.ones(len(matrix), dtype=torch.bool)
    for candidate in candidates:
        rows = open_rows.nonzero().flatten()
        same = (
            decoded(_codes(matrix[rows], candidate[rows]), candidate[rows]) == matrix[rows]
        ).all(dim=1)
        steps[rows[same]] = candidate[rows[same]]
        open_rows[rows[same]] = False
        if len(rows) == int(same.sum()):
            break
    if bool(open_rows.any()):
        return None
    codes = _codes(matrix, steps)
    # Equal is not yet the same bits: a minus zero has no code.
    found = decoded(codes, steps)
    return (codes, steps) if torch.equal(found.signbit(), matrix.signbit()) else None


def _codes(matrix: Tensor, steps: Tensor) -> Tensor:
    divisors = torch.where(steps > 0, steps, 1.0)[:, None]
    return (matrix / divisors).round().clamp(-_STEPS, _STEPS).to(torch.int8)


def decoded(codes: Tensor, steps: Tensor) -> Tensor:
    """The matrix of these codes (rows, columns) and steps (rows,), in the steps' dtype."""
    return codes.to(steps.dtype) * steps[:, None]
