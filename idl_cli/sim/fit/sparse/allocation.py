"""How a number of weights for the whole model is spent on its rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.sim.options import Allocation


def allocate(
    increments: Sequence[Tensor], sensitivity: Sequence[Tensor], kept: int, how: Allocation
) -> list[Tensor]:
    """The number of weights of every row.

    ``pooled``: the removals of all rows stand in one queue, each at its increase of the row's error
    (made non-decreasing along the row, so that a row loses its weights in order) times how much the
    outputs feel that row; what costs most is kept. ``per_layer``: every layer keeps the same share
    of its weights, pooled within it. ``uniform``: every row keeps the same share.

    Args:
        increments: (rows, D_l) of every layer, the increase of the error at each removal.
        sensitivity: (rows,) of every layer.
        kept: number of weights to keep, at most those there are.
        how: which of the three.

    Returns:
        For every layer (rows,) int64, ``kept`` in all.
    """
    costs = [
        each.cummax(dim=1).values * weight.to(each)[:, None]
        for each, weight in zip(increments, sensitivity, strict=True)
    ]
    if how == "pooled":
        return _most_costly(costs, kept)
    if how == "per_layer":
        sizes = _shares([cost.numel() for cost in costs], kept)
        return [_most_costly([c], size)[0] for c, size in zip(costs, sizes, strict=True)]
    rows = [cost.shape[1] for cost in costs for _ in range(len(cost))]
    counts = torch.tensor(_shares(rows, kept), device=costs[0].device)
    return list(torch.split(counts, [len(cost) for cost in costs]))


def _most_costly(costs: Sequence[Tensor], kept: int) -> list[Tensor]:
    flat = torch.cat([cost.flatten() for cost in costs])
    # Equal costs stand in the order of removal: of a row the later ones are kept, as they must be.
    cheapest = flat.argsort(stable=True)[: len(flat) - kept]
    chosen = torch.ones_like(flat, dtype=torch.bool).index_fill_(0, cheapest, False)
    parts = torch.split(chosen, [cost.numel() for cost in costs])
    return [part.view_as(cost).sum(dim=1) for part, cost in zip(parts, costs, strict=True)]


def _shares(sizes: Sequence[int], kept: int) -> list[int]:
    """Whole numbers in proportion to ``sizes`` that add up to ``kept`` (largest remainders)."""
    total = sum(sizes)
    counts = [size * kept // total for size in sizes]
    remainders = sorted(range(len(sizes)), key=lambda i: -(sizes[i] * kept % total))
    for index in remainders[: kept - sum(counts)]:
        counts[index] += 1
    return counts
