"""Small parts of a matrix that is split by columns, each brought to the process that asks for it.

A row's polish needs G on the row's own support J. Every process holds some of the columns of G_JJ;
it cuts them out for each set that any process asks for, and one exchange brings them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.sim.statistics.block_matrix import ColumnBlocks


@dataclass(frozen=True, eq=False)
class _Request:
    """An index set J (k,), and how many of its indices are columns of each process."""

    indices: Tensor
    held: list[int]

    def numbers(self, source: int) -> int:
        """Entries of G_JJ that a process holds."""
        return len(self.indices) * self.held[source]

    def cut(self, block: Tensor, source: int, first_column: int) -> Tensor:
        """Those entries, (k, held) flat, from the process's block."""
        start = sum(self.held[:source])
        columns = self.indices[start : start + self.held[source]] - first_column
        return block.index_select(0, self.indices).index_select(1, columns).flatten()

    def assembled(self, parts: Sequence[Tensor]) -> Tensor:
        """G_JJ (k, k) from what each process has cut out."""
        k = len(self.indices)
        columns = [part.view(k, held) for part, held in zip(parts, self.held, strict=True)]
        return torch.cat(columns, dim=1)


def submatrices(blocks: ColumnBlocks, block: Tensor, sets: Sequence[Tensor]) -> list[Tensor]:
    """The matrix on rows and columns J for some index sets J of each process; collective.

    Args:
        blocks: how its columns are split.
        block: (D, w), those of this process.
        sets: indices (k,) in ascending order, also none; as many sets in every process.

    Returns:
        (k, k) for each of this process's sets. While they travel they take up to ``size`` times
        their memory, where one process holds all columns that all processes ask for.
    """
    group = blocks.group
    requests = _requests(blocks, sets, block.device)
    length = max(
        sum(each.numbers(source) for each in of_one)
        for of_one in requests
        for source in range(group.size)
    )
    sent = block.new_zeros(group.size, length)
    for target, of_one in enumerate(requests):
        parts = [each.cut(block, group.rank, blocks.columns.start) for each in of_one]
        message = torch.cat(parts)
        sent[target, : len(message)] = message
    received = group.exchange_equal(sent) if length else sent
    mine = requests[group.rank]
    parts_of = []
    for source in range(group.size):
        numbers = [each.numbers(source) for each in mine]
        parts_of.append(torch.split(received[source, : sum(numbers)], numbers))
    return [each.assembled(parts) for each, *parts in zip(mine, *parts_of, strict=True)]


def _requests(
    blocks: ColumnBlocks, sets: Sequence[Tensor], device: torch.device
) -> list[list[_Request]]:
    """What every process asks for."""
    group = blocks.group
    lengths = group.gather_objects([len(each) for each in sets])
    indices = group.gather_rows(torch.cat([each.to(device) for each in sets]))
    stops = torch.tensor([blocks.columns_of(rank).stop for rank in range(group.size)]).to(indices)
    # Ascending indices: those in one process's columns follow one another.
    owners = torch.bucketize(indices, stops, right=True)
    split = [sum(of_one) for of_one in lengths]
    result = []
    for own, process, of_one in zip(
        torch.split(indices, split), torch.split(owners, split), lengths, strict=True
    ):
        result.append(
            [
                _Request(each, owner.bincount(minlength=group.size).tolist())
                for each, owner in zip(
                    torch.split(own, of_one), torch.split(process, of_one), strict=True
                )
            ]
        )
    return result
