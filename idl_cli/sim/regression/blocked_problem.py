"""The same problem where no process holds the Gram matrix whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from idl_cli.errors import ArgumentError
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.row_partition import RowPartition
from idl_cli.sim.regression.row_space import RowSpace
from idl_cli.sim.statistics.block_matrix import ColumnBlocks


@dataclass(frozen=True, eq=False)
class BlockedRegression(RowRegression):
    """A process's share of the rows, where none of the processes holds G whole.

    Products with G, and what follows from them, are collective: all processes ask for them in the
    same order. ``gram`` is this process's block of columns (D, w).

    Args:
        blocks: how columns are split; needed.
    """

    blocks: ColumnBlocks | None = None

    @property
    def split(self) -> ColumnBlocks:
        """How columns are split."""
        assert self.blocks is not None
        return self.blocks

    @property
    def columns(self) -> slice:
        """The columns of G that ``gram`` holds."""
        return self.split.columns

    @property
    def partition(self) -> RowPartition:
        """The processes that G is split over share the rows too."""
        return RowPartition(self.split.group)

    def _gram_shape(self) -> tuple[int, int]:
        columns = self.columns
        return self.split.features, columns.stop - columns.start

    def _check_squares(self) -> None:
        """Nothing: looking at the diagonal is collective."""

    @cached_property
    def row_space(self) -> RowSpace:
        """As for one process; collective."""
        return RowSpace(self.hessian_block, self.feature_squares, self.split)

    @property
    def hessian(self) -> Tensor:
        """No process has it.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(
            "the Gram matrix is split by columns, and only admm_multigpu can work with its blocks; "
            "use it, or record the statistics whole"
        )

    @property
    def hessian_block(self) -> Tensor:
        """This process's columns of G + l2·I (D, w)."""
        return self.split.shifted(self.gram, self.l2) if self.l2 else self.gram

    def scaled_gram(self, cost: Tensor) -> Tensor:
        """This process's columns of diag(cost) (G + l2·I) diag(cost) (D, w)."""
        return self.split.scaled(self.hessian_block, cost)

    def multiply(self, weights: Tensor) -> Tensor:
        """W (G + l2·I) of this process's rows (rows, D)."""
        return self.split.multiply(weights, self.hessian_block)

    def multiply_shared(self, vector: Tensor) -> Tensor:
        """V (G + l2·I) of a vector (D,) that all processes hold."""
        return self.split.multiply_shared(vector, self.hessian_block)

    @property
    def feature_squares(self) -> Tensor:
        """The diagonal of G + l2·I (D,)."""
        return self.split.diagonal(self.gram) + self.l2
