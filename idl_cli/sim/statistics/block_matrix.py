"""Symmetric matrices split by columns over the processes of a group, so that none holds one whole.

Each process holds a (D, w) block of every such matrix, w = D/size columns, and a share of the rows
that are multiplied by it. A product sends all rows to every process, which multiplies them by its
block and sends each its part back: (rows, D) numbers there, as many back over all processes, and
never more of them at once than a block holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share

WHOLE_FEATURES = 20_000
"""Largest D of which one process holds G whole: 3.2 GB in float64, four times that in a solve."""

_PANEL = 256
"""Columns eliminated at a time: wide enough for fast products, (D, 256) numbers to send."""


@dataclass(frozen=True)
class ColumnBlocks:
    """Which columns of a (D, D) matrix each process holds; every method is collective.

    Args:
        features: D.
        group: the processes, in whose order the blocks stand.
    """

    features: int
    group: Group

    def columns_of(self, rank: int) -> slice:
        """The columns of one process."""
        return share(self.features, rank, self.group.size)

    @property
    def columns(self) -> slice:
        """The columns of this process."""
        return self.columns_of(self.group.rank)

    def diagonal(self, block: Tensor) -> Tensor:
        """The diagonal (D,) of the matrix of which this process holds ``block``."""
        return self.group.gather_rows(block[self.columns].diagonal().contiguous())

    def scaled(self, block: Tensor, cost: Tensor) -> Tensor:
        """The block of diag(cost) M diag(cost)."""
        return block * cost[:, None] * cost[self.columns]

    def shifted(self, block: Tensor, shift: float) -> Tensor:
        """The block of M + shift·I, a new tensor."""
        result = block.clone()
        result[self.columns].diagonal().add_(shift)
        return result

    def multiply(self, rows: Tensor, block: Tensor) -> Tensor:
        """Rows times the matrix.

        Args:
            rows: (r, D), each process its own, as many as it has, also none.
            block: (D, w), in the dtype of the rows.

        Returns:
            (r, D), the product of this process's rows.
        """
        size, width = self.group.size, -(-self.features // self.group.size)
        most = torch.zeros(size, dtype=torch.int64)
        most[self.group.rank] = len(rows)
        self.group.all_reduce_sum_([most])
        # Rows of all processes at once, as many as take no more memory than a block.
        piece = max(width // size, 1)
        results = [
            self._piece(rows[start : start + piece], min(piece, int(most.max()) - start), block)
            for start in range(0, int(most.max()), piece)
        ]
        return torch.cat(results) if results else rows

    def _piece(self, rows: Tensor, length: int, block: Tensor) -> Tensor:
        """The product of some rows, padded to ``length`` so that all messages have one size."""
        size, width = self.group.size, -(-self.features // self.group.size)
        sent = rows.new_zeros(length, self.features)
        sent[: len(rows)] = rows
        product = rows.new_zeros(size * length, width)
        product[:, : block.shape[1]] = self.group.gather_equal(sent) @ block
        parts = torch.split(self.group.exchange_equal(product), length)
        widths = [self.columns_of(rank) for rank in range(size)]
        return torch.cat(
            [
                part[: len(rows), : columns.stop - columns.start]
                for part, columns in zip(parts, widths, strict=True)
            ],
            dim=1,
        )

    def multiply_shared(self, vector: Tensor, block: Tensor) -> Tensor:
        """A vector (D,) that all processes hold, times the matrix."""
        return self.group.gather_rows((vector @ block).contiguous())

    def inverse(self, block: Tensor) -> Tensor:
        """The block of the inverse of a positive definite matrix.

        Gauss-Jordan elimination by panels, without pivoting, which positive definite matrices do
        not need: 2 D² w operations, and every column is sent to all processes once. With a ridge
        ρ beside a unit diagonal the condition number is at most D/ρ, far from what float64 loses.

        Args:
            block: (D, w) float64, overwritten.
        """
        own = self.columns
        for rank in range(self.group.size):
            columns = self.columns_of(rank)
            for start in range(columns.start, columns.stop, _PANEL):
                pivot = slice(start, min(start + _PANEL, columns.stop))
                self._eliminate(block, pivot, rank, own)
        return block

    def _eliminate(self, block: Tensor, pivot: slice, rank: int, own: slice) -> None:
        mine = rank == self.group.rank
        local = slice(pivot.start - own.start, pivot.stop - own.start)
        width = pivot.stop - pivot.start
        panel = block[:, local].clone() if mine else block.new_empty(len(block), width)
        self.group.broadcast_(panel, rank)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(panel[pivot]))
        rows = inverse @ block[pivot]
        panel[pivot] = 0.0
        block.addmm_(panel, rows, alpha=-1.0)
        block[pivot] = rows
        if mine:
            block[:, local] = -(panel @ inverse)
            block[pivot, local] = inverse
