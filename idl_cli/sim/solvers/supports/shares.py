"""Rows dealt to the processes of a group as ``admm_multigpu`` deals them: none waits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.solvers.admm.row_shares import deal
from idl_cli.sim.solvers.supports.refit import limits_of

RowWork = Callable[[RowRegression, Tensor], tuple[Tensor, bool, int]]
"""The problem of some rows, and their indices: weights (rows, D), whether all are done, steps."""


def in_shares(
    problem: RowRegression, group: Group, work: RowWork
) -> tuple[Tensor, bool, tuple[int, ...]]:
    """Work on all rows, each process on about as many non-zeros.

    Args:
        problem: that every process holds.
        group: of processes that all call this.
        work: of some rows, one by one or all at once.

    Returns:
        Weights (rows, D) of all rows, whether all are done, and the steps of every process.
    """
    rows = torch.arange(problem.rows, device=problem.cross.device)
    if group.size == 1:
        weights, done, steps = work(problem, rows)
        return weights, done, (steps,)
    shares = deal(rows, limits_of(problem), group.size)
    mine = shares[group.rank]
    weights, done, steps = problem.cross[mine], True, 0
    if len(mine):
        weights, done, steps = work(problem.select(mine), mine)
    whole = torch.zeros_like(problem.cross)
    whole[torch.cat(shares)] = group.gather_rows(weights)
    reports = group.gather_objects((done, steps))
    return whole, all(each for each, _ in reports), tuple(count for _, count in reports)
