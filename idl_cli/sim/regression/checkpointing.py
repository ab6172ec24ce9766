"""Checkpoints of a solve's iterate, and whether one is of the problem at hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.errors import IgnoredOptionWarning
from idl_cli.sim.regression.problem import RowRegression

_PROBLEM: Final = "problem"
_SAME: Final = 1e-9
"""Relative difference of two problems' figures that is round-off of their sums."""


@dataclass(frozen=True)
class Checkpointing:
    """How a solve's iterate is written while it lasts, so that a later solve can continue.

    Attributes:
        write: takes named tensors, float64 and bool; they are not changed afterwards. In a group
            every process calls it with the same tensors: one of them should write.
        every: seconds between two calls at least.
        restored: what an earlier solve gave to ``write``; None to start anew.
    """

    write: Callable[[Mapping[str, Tensor]], None] | None = None
    every: float = 60.0
    restored: Mapping[str, Tensor] | None = None


def marked(problem: RowRegression, iterate: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint of an iterate: of all rows, with the figures of its problem; collective."""
    return {**problem.partition.whole_state(iterate), _PROBLEM: _figures(problem)}


def restored(
    problem: RowRegression, checkpoint: Mapping[str, Tensor] | None
) -> Mapping[str, Tensor] | None:
    """The iterate of a checkpoint, of the problem's rows; None, with a warning, of another problem.

    Collective, like :func:`marked`.
    """
    if checkpoint is None:
        return None
    mine, theirs = _figures(problem), checkpoint.get(_PROBLEM)
    if (
        theirs is None
        or theirs.shape != mine.shape
        or not torch.allclose(mine, theirs.to(mine), rtol=_SAME, atol=0)
    ):
        warnings.warn(
            "the iterate that was kept is of another problem (other data, penalty or bound): "
            "the solve starts anew",
            IgnoredOptionWarning,
            stacklevel=4,
        )
        return None
    return problem.partition.own_state(checkpoint)


def _figures(problem: RowRegression) -> Tensor:
    """Numbers that tell one problem from another; sums, so that round-off leaves them."""
    budget, total = problem.budget, problem.partition.total
    sums = (problem.cross.abs(), problem.target_square, problem.penalties)
    numbers = [
        float(total(torch.tensor([float(problem.rows)]))),
        float(problem.features),
        problem.l2,
        0.0 if budget is None else float(budget.count),
        0.0 if budget is None else budget.radius,
        float(problem.feature_squares.sum()),
        *total(torch.stack([each.sum() for each in sums])).tolist(),
    ]
    return torch.tensor(numbers, dtype=torch.float64)
