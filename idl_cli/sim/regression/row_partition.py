"""What the processes that share a problem's rows put together: sums and iterates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from idl_cli.distributed.sharding import share
from idl_cli.sim.regression.problem import BlockedRegression, RowRegression

ROW_ENTRIES = ("weights", "untried")
"""Entries of a kept iterate with a row a row of the problem."""


def total(problem: RowRegression, values: Tensor) -> Tensor:
    """Sums over all processes that share the problem's rows; ``values`` itself where none do."""
    if isinstance(problem, BlockedRegression):
        values = values.to(device=problem.cross.device, dtype=torch.float64, copy=True)
        problem.split.group.all_reduce_sum_([values])
    return values


def agreed(problem: RowRegression, verdict: bool) -> bool:
    """The first process's verdict, in all that share the problem's rows."""
    if not isinstance(problem, BlockedRegression):
        return verdict
    return problem.split.group.broadcast_object(verdict)


def whole_rows(problem: RowRegression, values: Tensor) -> Tensor:
    """The rows of all processes, in order."""
    if not isinstance(problem, BlockedRegression):
        return values
    if values.dtype == torch.bool:
        return problem.split.group.gather_rows(values.to(torch.uint8)).bool()
    return problem.split.group.gather_rows(values)


def own_rows(problem: RowRegression, values: Tensor) -> Tensor:
    """Those of all rows that the problem is of."""
    if not isinstance(problem, BlockedRegression):
        return values
    group = problem.split.group
    return values[share(len(values), group.rank, group.size)]


def whole_state(problem: RowRegression, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A solver's state with the rows of all processes."""
    return {
        name: whole_rows(problem, value) if name in ROW_ENTRIES else value
        for name, value in state.items()
    }


def own_state(problem: RowRegression, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a whole state that is of the problem's rows."""
    return {
        name: own_rows(problem, value) if name in ROW_ENTRIES else value
        for name, value in state.items()
    }
