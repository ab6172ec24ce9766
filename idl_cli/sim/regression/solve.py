"""The one loop round every solver: capabilities, stop rule, limits, history, final certificate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import (
    ArgumentError,
    ConvergenceWarning,
    IgnoredOptionWarning,
    NonFiniteError,
    ShapeError,
)
from idl_cli.sim.regression.attempts import Attempts
from idl_cli.sim.regression.centring import solve_centred
from idl_cli.sim.regression.certificate import Certificate, certify_together
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.limited import solve_limited
from idl_cli.sim.regression.monitor import HistoryEntry
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.rounding import round_feasible
from idl_cli.sim.regression.solver import (
    BUDGET,
    L1,
    L2,
    NONZEROS,
    BaseSolver,
    LowRankFactors,
    SolverResult,
    Start,
)
from idl_cli.sim.regression.support_bound import support_bound
from idl_cli.sim.statistics.batches import all_finite

Status = Literal[
    "optimal", "at_precision", "inexact", "stationary", "swap_optimal", "unconstrained", "failed"
]


@dataclass(frozen=True, eq=False)
class Solution:
    """The answer to a row problem, and what is known about it.

    Attributes:
        weights: (rows, D) float64, the point that ``certificate`` judges.
        stored: (rows, D), the same in the dtype asked for, every row shrunk to obey the budget.
        stored_inf_norm: largest ‖w[:count]‖₁ of ``stored``, summed in float64.
        status: ``unconstrained`` when the solver ignored a part of the problem, ``stationary``
            when no more can be claimed, ``swap_optimal`` when with a limit on non-zeros no
            exchange of two weights of a row helps, otherwise the certificate's.
        certificate: of ``weights``.
        iterations: in the solver's own unit.
        seconds: of the solver, judging while it ran included, the final certificate not.
        history: one entry a call of the monitor.
        ignored: parts of the problem the solver did not honour, of l1, l2, budget, nonzeros.
        notes: what the solver wants the user to know.
        part_seconds: wall-clock time of parts of the solve, from a solver that tells.
        factors: the budgeted part as L Rᵀ in float64, from a solver that restricts its rank.
        start: where the same solver may begin on a problem that differs in its penalty.
        lower_bound: (rows,), below the error of every choice of that many non-zeros; None where
            their number is not limited.
    """

    weights: Tensor
    stored: Tensor
    stored_inf_norm: float
    status: Status
    certificate: Certificate
    iterations: int
    seconds: float
    history: tuple[HistoryEntry, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    part_seconds: Mapping[str, float]
    factors: LowRankFactors | None = None
    start: Start | None = None
    lower_bound: Tensor | None = None

    @property
    def nonzero_fraction(self) -> float:
        """Share of the stored numbers that are not zero; of L and R where A is kept as these."""
        parts = [self.stored]
        if self.factors is not None:
            left, right = self.factors.left, self.factors.right
            parts = [left, right, self.stored[:, len(right) :]]
        return sum(int((each != 0).sum()) for each in parts) / sum(each.numel() for each in parts)


def warn_ignored(
    solver: BaseSolver, *, l1: float, l2: float, budget: bool, nonzeros: bool = False
) -> tuple[str, ...]:
    """Name the parts of a problem that a solver ignores, with a warning; needs no data.

    Args:
        solver: what will solve the problem.
        l1: λ, in any unit.
        l2: weight of the quadratic term.
        budget: whether there is an l1 budget.
        nonzeros: whether the number of non-zeros is limited.

    Returns:
        The ignored parts, of ``l1``, ``l2``, ``budget``, ``nonzeros``.
    """
    wanted = {L1: l1 > 0, L2: l2 > 0, BUDGET: budget, NONZEROS: nonzeros}
    ignored = tuple(
        part for part, present in wanted.items() if present and part not in solver.handles
    )
    if ignored:
        meaning = {
            L1: "the l1 penalty",
            L2: "the l2 penalty",
            BUDGET: "the bound ‖A‖∞ ≤ κ",
            NONZEROS: "the limit on non-zeros",
        }
        warnings.warn(
            f"{type(solver).__name__} ignores {' and '.join(meaning[part] for part in ignored)}: "
            "its result has status 'unconstrained'; choose another solver to have it honoured",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    return ignored


def solve(
    problem: RowRegression,
    solver: BaseSolver,
    *,
    tol: float = 1e-6,
    max_time: float | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[HistoryEntry], None] | None = None,
    warn: bool = True,
    group: Group | None = None,
    checkpointing: Checkpointing | None = None,
    start: Start | None = None,
) -> Solution:
    """Solve a row problem and certify the answer.

    Args:
        problem: what to solve.
        solver: how.
        tol: relative duality gap that every row must reach.
        max_time: seconds after which the solver is told to stop; None for no limit. Solvers look
            at the clock when they call the monitor, so a limit is overrun by one such interval.
        dtype: of ``Solution.stored``.
        progress: called with every history entry.
        warn: whether to warn of parts the solver ignores and of an inexact result; False when
            the caller reports them itself.
        group: the processes that solve this problem together, all of which call this function
            with the same problem, or with their own rows of one whose Gram matrix is split; None
            for this one alone.
        checkpointing: how the iterate is written, and what to continue from; None for neither.
        start: ``Solution.start`` of a similar problem, where the solver may begin. The answer is
            certified all the same.

    Raises:
        ArgumentError: tol or max_time out of range.
        ShapeError: the start has another shape than the problem.
        NonFiniteError: weights that ``dtype`` cannot hold.
    """
    if not (0 < tol < 1):
        raise ArgumentError(f"tol={tol} must lie in (0, 1): it is a relative duality gap")
    if max_time is not None and not max_time > 0:
        raise ArgumentError(f"max_time={max_time} must be positive seconds, or None")
    if start is not None:
        start = Start(problem.partition.own_rows(start.weights), start.memory)
    if start is not None and start.weights.shape != problem.cross.shape:
        raise ShapeError(
            f"start.weights has shape {tuple(start.weights.shape)}, the problem "
            f"{tuple(problem.cross.shape)} (rows, features): begin from its own answers only"
        )
    with warnings.catch_warnings():
        if not warn:
            warnings.simplefilter("ignore", IgnoredOptionWarning)
        ignored = warn_ignored(
            solver,
            l1=float(problem.is_penalised),
            l2=problem.l2,
            budget=problem.budget is not None,
            nonzeros=problem.nonzeros is not None,
        )
    attempts = Attempts(solver, tol, max_time=max_time, progress=progress, group=group)
    if problem.nonzeros is not None:
        result = solve_limited(problem, attempts, start, checkpointing)
    elif problem.shift is None:
        result = attempts.run(problem, start, checkpointing)
    else:
        result = solve_centred(problem, problem.shift, attempts, start, checkpointing)
    seconds = attempts.elapsed()
    weights = result.weights
    certificate = certify_together(problem, weights, tol=tol)
    weights = problem.partition.whole_rows(weights)
    status = _status(certificate, ignored, result)
    if status == "inexact" and warn:
        message = (
            _inexact_message(solver, certificate, tol)
            if result.stationary is None
            else f"{type(solver).__name__} stopped before a stationary point: raise solver.max_iter"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    stored = round_feasible(weights, problem.budget, dtype)
    if status != "failed" and not all_finite(stored):
        raise NonFiniteError(
            f"weights as large as {float(weights.abs().max()):.1e} are beyond the largest number of"
            f" {str(dtype).removeprefix('torch.')}: choose dtype=float64, or other units"
        )
    return Solution(
        weights=weights,
        stored=stored,
        stored_inf_norm=float(problem.row_norms(stored.double()).max()),
        status=status,
        certificate=certificate,
        iterations=attempts.iterations,
        seconds=seconds,
        history=tuple(attempts.history),
        ignored=ignored,
        notes=attempts.notes,
        part_seconds=attempts.part_seconds,
        factors=result.factors,
        start=Start(weights, result.memory),
        lower_bound=None if problem.nonzeros is None else support_bound(problem),
    )


def _status(certificate: Certificate, ignored: tuple[str, ...], result: SolverResult) -> Status:
    if certificate.status == "failed":
        return "failed"
    if ignored:
        return "unconstrained"
    if result.stationary is None:
        return certificate.status
    if not (result.stationary and certificate.feasible):
        return "inexact"
    return "swap_optimal" if result.swap_optimal else "stationary"


def _inexact_message(solver: BaseSolver, certificate: Certificate, tol: float) -> str:
    rows = certificate.inexact_rows
    shown = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return (
        f"{type(solver).__name__} stopped with {len(rows)} of {len(certificate.row_status)} rows "
        f"above tol={tol:g} (rows {shown}; relative gap {certificate.relative_gap:.1e}): "
        "raise solver.max_iter, or tol"
    )
