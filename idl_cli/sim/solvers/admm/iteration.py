"""The iteration of ADMM on a scaled row problem: ``admm`` runs it, ``active_set`` starts with it.

Two blocks, a ridge-like solve with G + ρI and the exact prox of the whole penalty, in scaled form.
The second block is feasible and sparse at every iteration, unlike an average of copies.
Boyd, Parikh, Chu, Peleato, Eckstein, "Distributed Optimization and Statistical Learning via the
Alternating Direction Method of Multipliers", 2011: §3.1.1 (scaled form), §3.4.1 (residual
balancing), §3.4.3 (over-relaxation), §6.4 (lasso).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.regression.row_partition import RowPartition
from idl_cli.sim.solvers.ridge import RidgeInverse
from idl_cli.sim.solvers.scaling import ScaledProblem

_BALANCE = 1.5
"""ρ changes only by a larger factor than this: each change costs a product of (D, D) matrices."""
_LEAST_RHO = 1e-9
"""Beside a unit diagonal. Rounding errors of directions without data are divided by ρ at every
iteration, and without any penalty (λ = 0, no budget) nothing else keeps ρ from vanishing."""

_ASK_EVERY = 10
"""Iterations between looks at the clock; where processes share ρ each is a message."""


@dataclass(frozen=True, eq=False)
class SplittingState:
    """Iterates, (rows, D) each.

    Attributes:
        dense: minimiser of the quadratic block.
        sparse: the prox block: feasible, with exact zeros.
        previous: ``sparse`` one iteration earlier.
        dual: scaled multiplier.
        rho: the penalty ρ.
    """

    dense: Tensor
    sparse: Tensor
    previous: Tensor
    dual: Tensor
    rho: float

    @classmethod
    def zeros(cls, like: Tensor, rho: float) -> SplittingState:
        """The start: all zero."""
        zero = torch.zeros_like(like)
        return cls(zero, zero, zero, zero, rho)

    @classmethod
    def at(cls, points: Tensor, scaled: ScaledProblem, rho: float) -> SplittingState:
        """The state whose fixed point are ``points`` (rows, D), where they are optimal."""
        dual = (scaled.cross - scaled.multiply(points)) / rho
        return cls(points, points, points, dual, rho)

    def select(self, rows: Tensor) -> SplittingState:
        """The iterates of some rows (index or mask)."""
        return SplittingState(
            self.dense[rows], self.sparse[rows], self.previous[rows], self.dual[rows], self.rho
        )

    def to(self, dtype: torch.dtype) -> SplittingState:
        """The iterates in another precision."""
        return SplittingState(
            self.dense.to(dtype),
            self.sparse.to(dtype),
            self.previous.to(dtype),
            self.dual.to(dtype),
            self.rho,
        )

    def balanced(self, partition: RowPartition) -> SplittingState:
        """Change ρ to bring the relative primal and dual residuals together.

        Args:
            partition: the processes whose rows share ρ.
        """
        parts = (
            self.dense - self.sparse,
            self.dense,
            self.sparse,
            self.sparse - self.previous,
            self.dual,
        )
        squares = torch.stack([part.norm().double().square() for part in parts])
        gap, dense, sparse, change, dual_norm = partition.total(squares).sqrt().tolist()
        tiny = torch.finfo(self.sparse.dtype).tiny
        primal = gap / max(dense, sparse, tiny)
        dual = change / max(dual_norm, tiny)
        if primal <= 0 or dual <= 0:
            return self
        factor = min(max((primal / dual) ** 0.5, 0.2, _LEAST_RHO / self.rho), 5.0)
        if 1 / _BALANCE < factor < _BALANCE:
            return self
        return SplittingState(
            self.dense, self.sparse, self.previous, self.dual / factor, self.rho * factor
        )


class Splitting:
    """Performs iterations.

    Args:
        problem: gives penalty and budget.
        scaled: the same problem in unit-diagonal coordinates.
        relaxation: over-relaxation in [1, 2).
        inverse: of the scaled problem's G; None for the one that serves every ρ.
    """

    def __init__(
        self,
        problem: RowRegression,
        scaled: ScaledProblem,
        relaxation: float,
        *,
        inverse: RidgeInverse | None = None,
    ) -> None:
        self._problem = problem
        self._own_inverse = inverse
        self.scaled = scaled
        self._relaxation = relaxation
        self._cross = scaled.cross
        self._penalties = problem.penalties[:, None]
        self._key: tuple[float, torch.dtype] | None = None
        self._constant = scaled.cross
        self._cost = scaled.cost
        self.iterations = 0
        """Performed so far."""

    @property
    def _inverse(self) -> RidgeInverse:
        return self.scaled.inverse if self._own_inverse is None else self._own_inverse

    def restrict(self, rows: Tensor) -> None:
        """Go on with some of all the problem's rows; states must be selected likewise."""
        self._cross = self.scaled.cross[rows]
        self._penalties = self._problem.penalties[rows, None]
        self._key = None

    def run(
        self,
        state: SplittingState,
        iterations: int,
        adapt_every: int,
        *,
        time_is_up: Callable[[], bool] | None = None,
    ) -> SplittingState:
        """Iterate in the precision of the state.

        Args:
            state: where to start.
            iterations: how many.
            adapt_every: iterations between adjustments of ρ, 0 for never.
            time_is_up: asked every so many iterations whether to end early; None for never.
        """
        for iteration in range(1, iterations + 1):
            state = self._step(state)
            self.iterations += 1
            if adapt_every and iteration % adapt_every == 0:
                state = state.balanced(self._problem.partition)
            if time_is_up is not None and iteration % _ASK_EVERY == 0 and self._any(time_is_up()):
                break
        return state

    def _any(self, here: bool) -> bool:
        """Whether it holds in any process that shares ρ: all must do equally many iterations."""
        return self._problem.partition.anywhere(here)

    def _step(self, state: SplittingState) -> SplittingState:
        self._prepare(state.rho, state.sparse.dtype)
        dense = self._inverse.step(self._constant, state.sparse - state.dual)
        moved = torch.lerp(state.sparse, dense, self._relaxation) + state.dual
        threshold = self._penalties / state.rho
        sparse = prox_rows(moved, threshold, self._problem.budget, self._cost)
        return SplittingState(dense, sparse, state.sparse, moved - sparse, state.rho)

    def _prepare(self, rho: float, dtype: torch.dtype) -> None:
        if self._key == (rho, dtype):
            return
        self._inverse.prepare(rho, dtype)
        self._constant = self._inverse.multiply(self._cross).to(dtype)
        self._cost = self.scaled.cost.to(dtype)
        self._key = (rho, dtype)
