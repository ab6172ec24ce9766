"""ADMM on the sufficient statistics: all rows at once, one cached eigendecomposition.

Two blocks: a ridge-like solve with G + ρI, and the exact prox of the whole penalty. Its second
block is feasible and sparse at every iteration, unlike an average of copies.
Boyd, Parikh, Chu, Peleato, Eckstein, "Distributed Optimization and Statistical Learning via the
Alternating Direction Method of Multipliers", 2011: §3.1.1 (scaled form), §3.4.1 (residual
balancing), §3.4.3 (over-relaxation), §6.4 (lasso).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError
from idl_cli.sim.problem import RowRegression
from idl_cli.sim.prox import prox_rows
from idl_cli.sim.solvers.base import BUDGET, L1, L2, BaseSolver, Monitor, SolverResult
from idl_cli.sim.solvers.scaling import ScaledProblem


@dataclass(frozen=True, kw_only=True)
class ADMMSolver(BaseSolver):
    """Alternating direction method of multipliers, in unit-diagonal coordinates.

    Iterations are those of ADMM; each costs one product (rows, D) x (D, D).

    Args:
        max_iter: largest number of iterations, float32 and float64 together.
        rho: initial penalty ρ > 0 in units of the (unit) diagonal of the scaled gram matrix.
        relaxation: over-relaxation in [1, 2); 1.6 as usual.
        adapt_every: iterations between adjustments of ρ; 0 keeps it fixed. ρ is left alone after
            half of ``max_iter``, so that the convergence proof for fixed ρ applies.
        warm_iterations: first iterations done in float32, at half the cost; 0 for none.
        check_every: iterations between looks at the certificate.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L1, L2, BUDGET})

    max_iter: int = 10000
    rho: float = 0.1
    relaxation: float = 1.6
    adapt_every: int = 20
    warm_iterations: int = 200
    check_every: int = 50

    def __post_init__(self) -> None:
        if not self.rho > 0:
            raise ArgumentError(f"ADMMSolver: rho={self.rho} must be positive")
        if not 1 <= self.relaxation < 2:
            raise ArgumentError(f"ADMMSolver: relaxation={self.relaxation} must lie in [1, 2)")
        for name in ("max_iter", "check_every"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"ADMMSolver: {name}={getattr(self, name)} must be >= 1")

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Iterate until the monitor says stop; see :class:`BaseSolver`."""
        scaled = ScaledProblem.of(problem)
        iteration = 0
        state = _State.zeros(scaled, self.rho, torch.float32)
        splitting = _Splitting(problem, scaled, self.relaxation, torch.float32)
        while iteration < min(self.warm_iterations, self.max_iter):
            state = splitting.step(state)
            iteration += 1
            if self.adapt_every and iteration % self.adapt_every == 0:
                state = state.balanced()
        state = state.to(torch.float64)
        splitting = _Splitting(problem, scaled, self.relaxation, torch.float64)
        weights = scaled.to_weights(state.sparse)
        progress = monitor(weights, iteration=iteration)
        while not progress.should_stop and iteration < self.max_iter:
            for _ in range(min(self.check_every, self.max_iter - iteration)):
                state = splitting.step(state)
                iteration += 1
                adapt = self.adapt_every and iteration < self.max_iter // 2
                if adapt and iteration % self.adapt_every == 0:
                    state = state.balanced()
            weights = scaled.to_weights(state.sparse)
            progress = monitor(weights, iteration=iteration)
        return SolverResult(weights=weights, iterations=iteration)


@dataclass(frozen=True, eq=False)
class _State:
    """Iterates of scaled-form ADMM, (rows, D) each.

    Attributes:
        dense: minimiser of the quadratic block.
        sparse: the prox block: feasible, with exact zeros.
        previous: ``sparse`` one iteration earlier.
        dual: scaled multiplier.
        rho: the penalty.
    """

    dense: Tensor
    sparse: Tensor
    previous: Tensor
    dual: Tensor
    rho: float

    @classmethod
    def zeros(cls, scaled: ScaledProblem, rho: float, dtype: torch.dtype) -> _State:
        zero = torch.zeros_like(scaled.cross, dtype=dtype)
        return cls(zero, zero, zero, zero, rho)

    def to(self, dtype: torch.dtype) -> _State:
        return _State(
            self.dense.to(dtype),
            self.sparse.to(dtype),
            self.previous.to(dtype),
            self.dual.to(dtype),
            self.rho,
        )

    def balanced(self) -> _State:
        """Change ρ where primal and dual relative residuals differ by more than a factor 2.25."""
        tiny = torch.finfo(self.sparse.dtype).tiny
        primal = float((self.dense - self.sparse).norm())
        primal /= max(float(self.dense.norm()), float(self.sparse.norm()), tiny)
        dual = float((self.sparse - self.previous).norm()) / max(float(self.dual.norm()), tiny)
        if primal <= 0 or dual <= 0:
            return self
        factor = min(max((primal / dual) ** 0.5, 0.2), 5.0)
        if 1 / 1.5 < factor < 1.5:
            return self
        return _State(
            self.dense, self.sparse, self.previous, self.dual / factor, rho=self.rho * factor
        )


class _Splitting:
    """The two blocks of an iteration, with (G + ρI)⁻¹ cached for the current ρ."""

    def __init__(
        self,
        problem: RowRegression,
        scaled: ScaledProblem,
        relaxation: float,
        dtype: torch.dtype,
    ) -> None:
        self._problem = problem
        self._relaxation = relaxation
        values, vectors = torch.linalg.eigh(scaled.gram)
        self._values = values.clamp(min=0)
        self._vectors = vectors
        self._cross = scaled.cross
        self._cost = scaled.cost.to(dtype)
        self._dtype = dtype
        self._rho = 0.0
        self._inverse = torch.empty(0)
        self._constant = torch.empty(0)

    def step(self, state: _State) -> _State:
        if state.rho != self._rho:
            inverse = (self._vectors / (self._values + state.rho)) @ self._vectors.T
            self._constant = (self._cross @ inverse).to(self._dtype)
            self._inverse = (state.rho * inverse).to(self._dtype)
            self._rho = state.rho
        dense = torch.addmm(self._constant, state.sparse - state.dual, self._inverse)
        relaxed = torch.lerp(state.sparse, dense, self._relaxation)
        moved = relaxed + state.dual
        sparse = prox_rows(moved, self._problem.l1 / state.rho, self._problem.budget, self._cost)
        return _State(dense, sparse, state.sparse, moved - sparse, state.rho)
