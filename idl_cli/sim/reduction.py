"""Samples shared out over the processes of a group, and their sums put together again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.distributed.group import Group

_STRIP = 64  # rows of a symmetric matrix that are sent from one column on


def share_of(batch: Tensor, group: Group) -> Tensor:
    """The samples of a batch (m, ...) that this process works on: a slice, possibly empty.

    Batches are cut rather than dealt, so that a single large one keeps all processes busy too;
    together the processes see exactly the samples that one process would.
    """
    first = len(batch) * group.rank // group.size
    return batch[first : len(batch) * (group.rank + 1) // group.size]


def sum_over_group(
    group: Group, tensors: Sequence[Tensor], *, symmetric: Sequence[Tensor] = ()
) -> None:
    """Add up tensors over the processes, in place, by one all-reduce of one float64 buffer.

    Args:
        group: of processes that all call this with tensors of the same shapes.
        tensors: float64, on one device.
        symmetric: matrices of which a little more than the upper triangle is sent, which is half
            the message where they are large.
    """
    if group.size == 1:
        return
    parts = [*tensors, *(strip for matrix in symmetric for strip in _strips(matrix))]
    buffer = torch.cat([part.flatten() for part in parts])
    assert buffer.dtype == torch.float64
    group.all_reduce_sum_([buffer])
    for part, summed in zip(
        parts, torch.split(buffer, [part.numel() for part in parts]), strict=True
    ):
        part.copy_(summed.view_as(part))
    for matrix in symmetric:
        for start in range(0, len(matrix), _STRIP):
            stop = start + _STRIP
            matrix[stop:, start:stop] = matrix[start:stop, stop:].T


def _strips(matrix: Tensor) -> list[Tensor]:
    """Rows from their diagonal on: views of whole blocks, which are copied faster than single rows.

    Together they hold the upper triangle, and the lower one of the blocks on the diagonal.
    """
    starts = range(0, len(matrix), _STRIP)
    return [matrix[start : start + _STRIP, start:] for start in starts]
