"""Choosing samples: subsets and validation parts, stratified by class, the same for one seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.split import Split
from idl_cli.errors import ConfigError


def choose(targets: Tensor, count: int, *, purpose: Purpose, seed: int) -> Tensor:
    """Choose ``count`` samples at random, of each class its share to within one sample.

    Shares are count·(class size)/m, rounded down; the samples still missing go to the classes
    with the largest remainders (ties: the lower class index). Real targets are not stratified.

    Args:
        targets: class indices (m,), integer, or real targets (m, q).
        count: how many, at most m.
        purpose: what the choice is for.
        seed: non-negative integer.

    Returns:
        Positions (count,), int64, ascending.
    """
    order = random_permutation(len(targets), purpose, seed)
    if targets.is_floating_point():
        return torch.from_numpy(np.sort(order[:count]))
    labels = targets.numpy()[order]
    sizes = np.bincount(labels)
    quotas = _shares(sizes, count)
    chosen = [order[labels == label][:quota] for label, quota in enumerate(quotas)]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def take_samples(
    split: Split, count: int | None, *, purpose: Purpose, seed: int, key: str
) -> Split:
    """Return ``count`` samples of a part (all of them when None), in their stored order.

    Raises:
        ConfigError: more samples are asked for than there are; the message names ``key``.
    """
    if count is None:
        return split
    if not 1 <= count <= len(split):
        raise ConfigError([f"{key}={count}: from 1 to {len(split):,} samples can be had"])
    return split.subset(choose(split.targets, count, purpose=purpose, seed=seed))


def split_off(split: Split, fraction: float, *, purpose: Purpose, seed: int) -> tuple[Split, Split]:
    """Divide a part into (rest, part of round(fraction·m) samples), disjoint and exhaustive."""
    count = round(fraction * len(split))
    chosen = choose(split.targets, count, purpose=purpose, seed=seed)
    kept = torch.ones(len(split), dtype=torch.bool)
    kept[chosen] = False
    return split.subset(kept.nonzero()[:, 0]), split.subset(chosen)


def _shares(sizes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    # In integers: a share computed in floating point could round a whole number down.
    quotas, remainders = np.divmod(sizes.astype(np.int64) * count, sizes.sum())
    largest_first = np.argsort(-remainders, kind="stable")
    quotas[largest_first[: count - quotas.sum()]] += 1
    return quotas
