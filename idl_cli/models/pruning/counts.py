"""How many weights a network has, and how few a pruner can leave."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from idl_cli.errors import ArgumentError


def count_nonzeros(model: nn.Module) -> int:
    """Trainable values, weights and biases, that are not exactly zero."""
    return sum(int((p != 0).sum()) for p in model.parameters() if p.requires_grad)


def smallest_pruned_count(model: nn.Module) -> int:
    """Non-zeros that are left when every weight matrix is zero: those of the biases."""
    return sum(int((p != 0).sum()) for p in model.parameters() if p.requires_grad and p.ndim < 2)


def weights_to_keep(model: nn.Module, nonzeros: int) -> int:
    """Entries of weight matrices that ``nonzeros`` leave room for beside the biases.

    Raises:
        ArgumentError: fewer than the biases alone.
    """
    fixed = smallest_pruned_count(model)
    if nonzeros < fixed:
        raise ArgumentError(
            f"nonzeros={nonzeros}: the biases, which are not pruned, are {fixed} already"
        )
    return nonzeros - fixed


def shared_out(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers that add up to ``total``, in proportion to ``sizes`` up to rounding."""
    shares, given, seen, whole = [], 0, 0, max(sum(sizes), 1)
    for size in sizes:
        seen += size
        shares.append(total * seen // whole - given)
        given += shares[-1]
    return shares
