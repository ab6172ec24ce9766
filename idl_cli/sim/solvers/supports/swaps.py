"""Supports that no exchange of one weight for another improves.

With M = G_SS⁻¹, w = M h_S, c = M G_SJ for the features J outside S, r = h − G w and the Schur
complements s_j = G_jj − G_jS M G_Sj: once i has left S,

    r_j' = r_j + c_ij w_i/M_ii,      s_j' = s_j + c_ij²/M_ii,

so that taking j in lowers the error by r_j'²/(2s_j') − w_i²/(2M_ii) in all (the 1-swaps of
SparseSwaps, arXiv 2512.10922, with exact figures for all pairs).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, SolverResult
from idl_cli.sim.solvers.options import SwapsOptions
from idl_cli.sim.solvers.scaling import ScaledProblem
from idl_cli.sim.solvers.supports.eliminating import Eliminating
from idl_cli.sim.solvers.supports.elimination import Elimination
from idl_cli.sim.solvers.supports.refit import limits_of, refit
from idl_cli.sim.solvers.supports.shares import in_shares

_DISTINCT = 1e-10
"""Schur complement of a unit-diagonal feature below which it is a combination of the support."""
_GAIN = 1e-12
"""Gain of a swap, relative to ‖z‖², that is no round-off."""

_FULL = 1e-9
"""Of a budget, within which a row uses all of it."""


@dataclass(frozen=True, kw_only=True)
class SwapSolver(SwapsOptions, Eliminating):
    """Backward elimination, then the best exchange of two weights of a row until none helps.

    A row whose budget is in use keeps the support of the elimination, since the gains above are
    those without a budget; the status is then ``stationary`` and not ``swap_optimal``. Iterations
    are exchanges.

    Args:
        max_iter: exchanges of one row at most.
        ridge: of the elimination, relative to the mean diagonal of G.
    """

    name: ClassVar[str] = "swaps"

    def solve_eliminated(
        self, problem: RowRegression, monitor: Monitor, elimination: Elimination
    ) -> SolverResult:
        """Exchange weights of the supports that the elimination leaves."""
        eliminated = elimination.path.supports(limits_of(problem))

        def work(part: RowRegression, rows: Tensor) -> tuple[Tensor, bool, int]:
            scaled = ScaledProblem.of(part)
            supports = eliminated[rows]
            exchanges, finished = 0, True
            for row in range(part.rows):
                taken, done = self._exchange(scaled, row, supports[row], monitor)
                exchanges += taken
                finished = finished and done
            if part.budget is not None:
                free = refit(replace(part, budget=None), supports)
                bound = part.row_norms(free.weights) > part.budget.radius
                supports = torch.where(bound[:, None], eliminated[rows], supports)
            return refit(part, supports).weights, finished, exchanges

        weights, done, exchanges = in_shares(problem, monitor.group, work)
        notes: tuple[str, ...] = ()
        if problem.budget is not None:
            full = problem.row_norms(weights) >= problem.budget.radius * (1 - _FULL)
            if bool(full.any()):
                notes = (f"{int(full.sum())} rows use their budget and were not exchanged",)
        monitor(weights, iteration=sum(exchanges))
        return SolverResult(
            weights,
            sum(exchanges),
            notes=notes,
            stationary=done,
            swap_optimal=done and not notes,
            memory=elimination,
        )

    def _exchange(
        self, scaled: ScaledProblem, row: int, support: Tensor, monitor: Monitor
    ) -> tuple[int, bool]:
        """Exchange weights of one row, changing ``support`` (D,); how many, and whether done."""
        floor = _GAIN * float(scaled.source.target_square[row])
        for count in range(self.max_iter + 1):
            if monitor.time_is_up():
                return count, False
            pair = _best_exchange(scaled.gram, scaled.cross[row], support, floor)
            if pair is None:
                return count, True
            if count < self.max_iter:
                leaving, entering = pair
                support[leaving], support[entering] = False, True
        return self.max_iter, False


def _best_exchange(
    gram: Tensor, cross: Tensor, support: Tensor, floor: float
) -> tuple[int, int] | None:
    """The pair (leaves, enters) that lowers the error most; None where none does."""
    inside, outside = support.nonzero()[:, 0], (~support).nonzero()[:, 0]
    if len(inside) == 0 or len(outside) == 0:
        return None
    block = gram[inside][:, inside].clone()
    block.diagonal().add_(1e-13)
    factor, info = torch.linalg.cholesky_ex(block)
    if int(info) != 0:  # combinations of each other: nothing can be said of pairs
        block.diagonal().add_(1e-8)
        factor = torch.linalg.cholesky(block)
    inverse = torch.cholesky_inverse(factor)
    weights = inverse @ cross[inside]
    between = gram[inside][:, outside]
    columns = inverse @ between
    residual = cross[outside] - weights @ between
    schur = gram.diagonal()[outside] - (between * columns).sum(dim=0)
    diagonal = inverse.diagonal()[:, None]
    moved = residual + columns * (weights[:, None] / diagonal)
    left = schur + columns.square() / diagonal
    gains = 0.5 * (
        moved.square() / left.clamp(min=_DISTINCT) - weights.square()[:, None] / diagonal
    )
    gains = gains.masked_fill(left < _DISTINCT, 0.0)
    best = int(gains.argmax())
    if float(gains.flatten()[best]) <= floor:
        return None
    leaving, entering = divmod(best, len(outside))
    return int(inside[leaving]), int(outside[entering])
