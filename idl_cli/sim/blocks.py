"""Symmetric matrices split by columns over the processes of a group, so that none holds one whole.

Each process holds a (D, w) block of every such matrix, w = D/size columns, and a share of the rows
that are multiplied by it. A product sends each process's rows through all the others: it moves
(rows, D) numbers twice, whatever the matrix, and holds one process's rows at a time.
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
        counts = torch.zeros(self.group.size, dtype=torch.int64)
        counts[self.group.rank] = len(rows)
        self.group.all_reduce_sum_([counts])
        result = rows
        for source, count in enumerate(counts.tolist()):
            if count == 0:
                continue
            mine = source == self.group.rank
            sent = rows.contiguous() if mine else rows.new_empty(count, self.features)
            self.group.broadcast_(sent, source)
            product = self.group.gather_rows((sent @ block).T.contiguous())
            if mine:
                result = product.T.contiguous()
        return result

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
        panel = block[:, local].contiguous() if mine else block.new_empty(len(block), width)
        self.group.broadcast_(panel, rank)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(panel[pivot]))
        rows = inverse @ block[pivot]
        panel[pivot] = 0.0
        block.addmm_(panel, rows, alpha=-1.0)
        block[pivot] = rows
        if mine:
            block[:, local] = -(panel @ inverse)
            block[pivot, local] = inverse
