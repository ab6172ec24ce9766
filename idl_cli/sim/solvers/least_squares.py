"""Minimum-norm least squares from the gram matrix: the baseline that knows neither λ nor κ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import L2, BaseSolver, Monitor, SolverResult
from idl_cli.sim.solvers.options import LeastSquaresOptions
from idl_cli.sim.solvers.scaling import ScaledProblem


@dataclass(frozen=True, kw_only=True)
class LeastSquareSolver(LeastSquaresOptions, BaseSolver):
    """The least-squares solution of smallest norm; it ignores the l1 penalty and the budget.

    The rank is read off the eigenvalues of the unit-diagonal gram matrix, so that it does not
    depend on the units of the features; directions without data are then removed from the
    solution, which makes it the one of minimum norm ‖w‖₂ in the given units.

    Args:
        rank_tol: eigenvalues below ``rank_tol`` times the largest count as zero. An eigenvalue of
            G is a singular value squared and is known to about D·eps.
    """

    handles: ClassVar[frozenset[str]] = frozenset({L2})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Solve in closed form; see :class:`BaseSolver`."""
        scaled = ScaledProblem.of(problem)
        values, vectors = torch.linalg.eigh(scaled.gram)
        kept = values > self.rank_tol * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
        range_basis, null_basis = vectors[:, kept], vectors[:, ~kept]
        weights = scaled.to_weights(((scaled.cross @ range_basis) / values[kept]) @ range_basis.T)
        if null_basis.shape[1]:
            # In given units the directions without data are the columns of diag(cost)·N.
            basis, _ = torch.linalg.qr(scaled.cost[:, None] * null_basis)
            weights = weights - (weights @ basis) @ basis.T
        rank = int(kept.sum())
        notes = [f"rank {rank} of {problem.features} features"]
        if problem.budget is not None:
            norm = float(problem.row_norms(weights).max())
            if norm > problem.budget.radius:
                notes.append(
                    f"‖A‖∞ = {norm:.4g} exceeds κ = {problem.budget.radius:g}: "
                    "a unique equilibrium is not guaranteed"
                )
        monitor(weights, iteration=1)
        return SolverResult(weights=weights, iterations=1, notes=tuple(notes))
