"""Where a sparse matrix is not zero, in the orders in which it is multiplied."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.equilibrium.back_substitution import blocks_of_firsts


@dataclass(frozen=True, eq=False)
class SparsePattern:
    """The places of the non-zeros, row by row and in each row from left to right.

    Attributes:
        shape: rows and columns.
        rows: of each non-zero (k,), int64.
        columns: of each non-zero (k,), int64.
    """

    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, matrix: Tensor) -> SparsePattern:
        """Return the pattern of a matrix (rows, columns)."""
        rows, columns = matrix.nonzero(as_tuple=True)
        return cls((matrix.shape[0], matrix.shape[1]), rows, columns)

    @cached_property
    def flat(self) -> Tensor:
        """Indices into the rows of the matrix one after another (k,), int64."""
        return self.rows * self.shape[1] + self.columns

    def values(self, matrix: Tensor) -> Tensor:
        """Return the values that a matrix (rows, columns) has there (k,), in its graph."""
        return matrix.reshape(-1).index_select(0, self.flat)

    @cached_property
    def starts(self) -> Tensor:
        """Where each row begins among the non-zeros, and where the last ends (rows + 1,), int32."""
        counts = torch.bincount(self.rows, minlength=self.shape[0])
        return torch.cat((counts.new_zeros(1), counts.cumsum(0))).int()

    @cached_property
    def indices(self) -> Tensor:
        """The columns as int32 (k,), in which products are faster."""
        return self.columns.int()

    @cached_property
    def by_column(self) -> Tensor:
        """The order of the non-zeros column by column (k,): ``values[by_column]`` are Aᵀ's."""
        return torch.argsort(self.columns, stable=True)

    @cached_property
    def transposed(self) -> SparsePattern:
        """The pattern of Aᵀ."""
        rows, columns = self.shape
        order = self.by_column
        return SparsePattern((columns, rows), self.columns[order], self.rows[order])

    @cached_property
    def antitransposed(self) -> SparsePattern:
        """The pattern of J Aᵀ J, whose values are ``values[by_column].flip(0)``."""
        last, transposed = self.shape[0] - 1, self.transposed
        return SparsePattern(
            self.shape, last - transposed.rows.flip(0), last - transposed.columns.flip(0)
        )

    @cached_property
    def above_diagonal(self) -> MovedPattern:
        """The part of the pattern above the diagonal."""
        kept = (self.rows < self.columns).nonzero().squeeze(1)
        return MovedPattern(SparsePattern(self.shape, self.rows[kept], self.columns[kept]), kept)

    @cached_property
    def swept(self) -> MovedPattern | None:
        """The pattern of A[order][:, order] in the ``sweep_order``; None where there is none."""
        order = self.sweep_order
        if order is None:
            return None
        place = order.argsort()
        rows, columns = place[self.rows], place[self.columns]
        moved = torch.argsort(rows * self.shape[1] + columns)
        return MovedPattern(SparsePattern(self.shape, rows[moved], columns[moved]), moved)

    @cached_property
    def sweep_order(self) -> Tensor | None:
        """The order (n,) in which a square A is strictly upper triangular; None for none.

        Sorted level after level, as in ``sweep_order``, by the non-zeros that are left.
        """
        rows, columns, size = self.rows, self.columns, self.shape[0]
        waiting = torch.bincount(rows, minlength=size)
        levels = [(waiting == 0).nonzero().squeeze(1)]
        done = waiting == 0
        while len(levels[-1]):
            fed = done[columns]
            met = torch.bincount(rows[fed], minlength=size)
            rows, columns = rows[~fed], columns[~fed]
            waiting = waiting - met
            ready = (waiting == 0) & ~done
            done = done | ready
            levels.append(ready.nonzero().squeeze(1))
        order = torch.cat(levels[::-1])
        return order if len(order) == size else None

    @cached_property
    def sweep_blocks(self) -> list[tuple[int, int]]:
        """Consecutive states that do not feed each other, last first; of an upper triangle."""
        size = self.shape[0]
        first = self.rows.new_full((size,), size)
        first.scatter_reduce_(0, self.rows, self.columns, "amin")
        return blocks_of_firsts(first.tolist())

    def compressed(self, values: Tensor) -> Tensor:
        """Return the matrix of these values (k,) in compressed rows, without a graph."""
        return compressed_rows(self.starts, self.indices, values, self.shape)


@dataclass(frozen=True, eq=False)
class MovedPattern:
    """A pattern made of another one.

    Attributes:
        pattern: where its non-zeros are.
        moved: where each was among those of the other one (k,).
    """

    pattern: SparsePattern
    moved: Tensor


def compressed_rows(
    starts: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Return a CSR tensor of parts that are known to fit each other."""
    with warnings.catch_warnings():
        # Torch calls the layout beta, once; what is used of it is held to dense products by tests.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts, indices, values.detach(), shape, check_invariants=False
        )
