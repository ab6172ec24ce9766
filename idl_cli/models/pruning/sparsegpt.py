"""SparseGPT: optimal brain surgeon on one Hessian a layer, in blocks of columns.

Frantar and Alistarh, arXiv 2301.00774, algorithm 1: columns are gone through from left to right;
what a pruned weight did is made up for by the columns to its right, with the rows of the Cholesky
factor of H⁻¹ that all rows of the layer share. Each block chooses its mask when it is reached.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.models.pruning.counts import shared_out

BLOCK = 128
"""Columns whose mask is chosen together (B_s of the paper)."""
DAMPING = 0.01
"""Added to the Hessian's diagonal, relative to its mean, as in the authors' code."""


def sparsegpt(weight: Tensor, gram: Tensor, nonzeros: int) -> Tensor:
    """The layer with ``nonzeros`` weights left, the others reconstructed.

    Args:
        weight: (r, D).
        gram: (D, D), Σ x xᵀ of the layer's inputs.
        nonzeros: of the whole layer; every block keeps the same share.
    """
    weight, columns = weight.clone(), weight.shape[1]
    damping = DAMPING * gram.diagonal().mean() if bool(gram.any()) else torch.ones_like(gram[0, 0])
    hessian = gram + damping * torch.eye(columns, dtype=gram.dtype, device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    starts = range(0, columns, BLOCK)
    kept = shared_out(nonzeros, [min(BLOCK, columns - start) for start in starts])
    for start, left in zip(starts, kept, strict=True):
        block = slice(start, min(start + BLOCK, columns))
        own = factor[block, block]
        scores = (weight[:, block] / own.diagonal()).square()
        order = scores.flatten().argsort(stable=True)
        pruned = torch.zeros(scores.numel(), dtype=torch.bool, device=weight.device)
        pruned[order[: scores.numel() - left]] = True
        pruned = pruned.view_as(scores)
        errors = torch.zeros_like(scores)
        for column in range(scores.shape[1]):
            values = weight[:, start + column]
            lost = values.masked_fill(~pruned[:, column], 0.0)
            errors[:, column] = lost / own[column, column]
            rest = slice(start + column, block.stop)
            weight[:, rest] -= torch.outer(errors[:, column], own[column, column:])
            weight[pruned[:, column], start + column] = 0.0
        weight[:, block.stop :] -= errors @ factor[block, block.stop :]
    return weight
