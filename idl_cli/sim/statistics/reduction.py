"""Samples shared out over the processes of a group, and their sums put together again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.statistics.symmetric import strips


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
        symmetric: matrices of which only the strips are added up (see ``symmetric``), which is half
            the message where they are large; what stands below them is left as it was.
    """
    if group.size == 1:
        return
    parts = [*tensors, *(strip for matrix in symmetric for strip in strips(matrix))]
    buffer = torch.cat([part.flatten() for part in parts])
    assert buffer.dtype == torch.float64
    group.all_reduce_sum_([buffer])
    for part, summed in zip(
        parts, torch.split(buffer, [part.numel() for part in parts]), strict=True
    ):
        part.copy_(summed.view_as(part))
