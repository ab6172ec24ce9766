"""Wanda: weights by magnitude times the norm of their input (Sun, Liu, Bair, Kolter, 2306.11695).

Scores |w_ij|·‖x_j‖₂ compete within each output row; nothing is updated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.models.pruning.counts import shared_out


def wanda(weight: Tensor, gram: Tensor, nonzeros: int) -> Tensor:
    """The layer with its weights of largest score, as many in each row as in the others.

    Args:
        weight: (r, D).
        gram: (D, D), Σ x xᵀ of the layer's inputs.
        nonzeros: of the whole layer.
    """
    scores = weight.abs() * gram.diagonal().sqrt()
    places = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
    kept = torch.tensor(shared_out(nonzeros, [1] * len(weight)), device=weight.device)
    return weight.masked_fill(places >= kept[:, None], 0.0)
