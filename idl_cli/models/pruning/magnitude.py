"""Unstructured magnitude pruning, the plain baseline of every sparse model.

All weight matrices compete: the smallest magnitudes anywhere in the network become zero (Han, Pool,
Tran, Dally, NeurIPS 2015, without their layer-wise thresholds). Biases are few and stay.
"""

from __future__ import annotations

import torch
from torch import nn

from idl_cli.models.pruning.counts import weights_to_keep


@torch.no_grad()
def prune_by_magnitude(model: nn.Module, nonzeros: int) -> None:
    """Set the smallest weights to zero, in place, until ``nonzeros`` values are left.

    Exactly as many are left, ties being decided by position; a model that has no more non-zeros
    than that is left as it is.

    Args:
        model: its parameters with two or more dimensions are pruned.
        nonzeros: weights and biases to be left, all counted as :func:`count_nonzeros` does.

    Raises:
        ArgumentError: fewer than the biases alone.
    """
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    wanted = weights_to_keep(model, nonzeros)
    magnitudes = torch.cat([p.abs().flatten() for p in matrices])
    surplus = int((magnitudes != 0).sum()) - wanted
    if surplus <= 0:
        return
    already = len(magnitudes) - int((magnitudes != 0).sum())
    keep = torch.ones(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    keep[magnitudes.argsort(stable=True)[: already + surplus]] = False
    first = 0
    for parameter in matrices:
        kept = keep[first : first + parameter.numel()]
        parameter.masked_fill_(~kept.view_as(parameter), 0.0)
        first += parameter.numel()
