"""The processes that share a problem's rows, and what they put together: sums and iterates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share

ROW_ENTRIES = ("weights", "untried")
"""Entries of a checkpoint with a row a row of the problem."""


@dataclass(frozen=True)
class RowPartition:
    """How rows are shared; every method is collective where several processes share them.

    Args:
        group: the processes, each with some of the rows; of one that has them all, values come
            back as they are.
    """

    group: Group

    def total(self, values: Tensor) -> Tensor:
        """Sums over all processes; ``values`` itself, in its own dtype, where one has all rows."""
        if self.group.size == 1:
            return values
        values = values.to(dtype=torch.float64, copy=True)
        self.group.all_reduce_sum_([values])
        return values

    def largest(self, value: float) -> float:
        """The largest of the processes' values."""
        return max(self.group.gather_objects(value))

    def anywhere(self, flag: bool) -> bool:
        """Whether it holds in any of the processes."""
        return bool(self.total(torch.tensor([float(flag)])) > 0)

    def agreed(self, verdict: bool) -> bool:
        """The first process's verdict, in all."""
        return self.group.broadcast_object(verdict)

    def whole_rows(self, values: Tensor) -> Tensor:
        """The rows of all processes, in order."""
        if values.dtype == torch.bool:
            return self.group.gather_rows(values.to(torch.uint8)).bool()
        return self.group.gather_rows(values)

    def own_rows(self, values: Tensor) -> Tensor:
        """Those of all rows that are this process's."""
        return values[share(len(values), self.group.rank, self.group.size)]

    def whole_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A solver's state with the rows of all processes."""
        return {
            name: self.whole_rows(value) if name in ROW_ENTRIES else value
            for name, value in state.items()
        }

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of a whole state that is of this process's rows."""
        return {
            name: self.own_rows(value) if name in ROW_ENTRIES else value
            for name, value in state.items()
        }
