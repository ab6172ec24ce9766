"""A grid of operators: the states of several scales, and what each feeds into each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from idl_cli.equilibrium.operators.base import Operator
from idl_cli.errors import ShapeError

Grid = Sequence[Sequence[Operator | None]]
_Forms = tuple[tuple[tuple[Callable[..., Operator], int] | None, ...], ...]


class BlockOperator(Operator):
    """A of blocks A_ij; the states are the parts x_j side by side in one row.

    Args:
        grid: A_ij, row by row; None for a block of zeros. Every row and every column holds a block.

    Raises:
        ShapeError: a row or column is empty, or its blocks differ in size.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = tuple(tuple(row) for row in grid)
        lengths = {len(row) for row in self._grid}
        if len(lengths) != 1:
            raise ShapeError(f"the rows of blocks hold {sorted(lengths)} blocks; expected as many.")
        self._rows = [_common(row, 0, f"row {i}") for i, row in enumerate(self._grid)]
        columns = list(zip(*self._grid, strict=True))
        self._columns = [_common(column, 1, f"column {j}") for j, column in enumerate(columns)]
        self._transposed = columns
        self.factors = tuple(factor for block in self._blocks() for factor in block.factors)

    def _blocks(self) -> list[Operator]:
        return [block for row in self._grid for block in row if block is not None]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of A."""
        return sum(self._rows), sum(self._columns)

    @property
    def multiplications(self) -> int:
        """How many a product with one sample takes: those of all blocks."""
        return sum(block.multiplications for block in self._blocks())

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes a grid of these structures of other factors."""
        forms: _Forms = tuple(
            tuple(None if block is None else (block.form, len(block.factors)) for block in row)
            for row in self._grid
        )
        return partial(_rebuilt, forms)

    @cached_property
    def magnitudes(self) -> Operator:
        """|A|."""
        return BlockOperator(
            [[None if block is None else block.magnitudes for block in row] for row in self._grid]
        )

    def apply(self, x: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return A x + offset."""
        parts = x.split_with_sizes(self._columns, dim=1)
        totals = list(offset.split_with_sizes(self._rows, dim=1))
        for i, row in enumerate(self._grid):
            for block, part in zip(row, parts, strict=True):
                if block is not None:
                    totals[i] = block.apply(part, totals[i])
        return torch.cat(totals, dim=1, out=out)

    def apply_transpose(self, v: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """Return Aᵀ v + offset."""
        parts = v.split_with_sizes(self._rows, dim=1)
        totals = list(offset.split_with_sizes(self._columns, dim=1))
        for j, column in enumerate(self._transposed):
            for block, part in zip(column, parts, strict=True):
                if block is not None:
                    totals[j] = block.apply_transpose(part, totals[j])
        return torch.cat(totals, dim=1, out=out)

    def factor_gradients(
        self, v: Tensor, x: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return what every block pulls back of its part."""
        wanted, pulled = iter(needed), list[Tensor | None]()
        parts = x.split_with_sizes(self._columns, dim=1)
        for row, adjoint in zip(self._grid, v.split_with_sizes(self._rows, dim=1), strict=True):
            for block, part in zip(row, parts, strict=True):
                if block is not None:
                    asked = [next(wanted) for _ in block.factors]
                    pulled += block.factor_gradients(adjoint, part, asked)
        return tuple(pulled)

    def changes(self, tangents: Sequence[Tensor | None]) -> Iterator[Operator]:
        """Give operators whose sum is dA: of each block a change, and zeros where it has none."""
        rest = iter(tangents)
        changed = [
            [
                None if block is None else block.changes([next(rest) for _ in block.factors])
                for block in row
            ]
            for row in self._grid
        ]
        nothing = [
            [
                None if block is None else block.form(*map(torch.zeros_like, block.factors))
                for block in row
            ]
            for row in self._grid
        ]
        while True:
            found = [
                [None if each is None else next(each, None) for each in row] for row in changed
            ]
            if not any(each for row in found for each in row):
                return
            yield BlockOperator(
                [
                    [change or zero for change, zero in zip(row, zeros, strict=True)]
                    for row, zeros in zip(found, nothing, strict=True)
                ]
            )

    def row_norms(self) -> Tensor:
        """Return the l1 norms of the rows over all blocks, in float64 (rows,)."""
        return torch.cat(
            [
                torch.stack([block.row_norms() for block in row if block is not None]).sum(dim=0)
                for row in self._grid
            ]
        )

    def frobenius_norm(self) -> float:
        """Return ‖A‖_F."""
        return math.hypot(*(block.frobenius_norm() for block in self._blocks()))


def _common(blocks: Sequence[Operator | None], axis: int, name: str) -> int:
    sizes = {block.shape[axis] for block in blocks if block is not None}
    if len(sizes) != 1:
        raise ShapeError(f"{name} of the blocks has sizes {sorted(sizes)}; expected one.")
    return sizes.pop()


def _rebuilt(forms: _Forms, *factors: Tensor) -> BlockOperator:
    rest = iter(factors)
    return BlockOperator(
        [
            [
                None if each is None else each[0](*(next(rest) for _ in range(each[1])))
                for each in row
            ]
            for row in forms
        ]
    )
