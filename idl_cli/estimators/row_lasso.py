"""Lasso of many targets on one Gram matrix, to a certified duality gap."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from idl_cli.estimators.validation import Matrix, checked
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.solvers.active_set import ActiveSetSolver
from idl_cli.sim.solvers.admm.admm_solver import ADMMSolver


class RowLasso(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares with an l1 penalty, a quadratic one and an l1 budget, for every target.

    minimise  1/(2m) ‖y − Xw − w₀‖² + alpha ‖w‖₁ + l2/2 ‖w‖²   subject to ‖w‖₁ ≤ budget

    the unit of ``sklearn.linear_model.Lasso``. All targets share one Gram matrix and its
    factorisations. Samples enter through XᵀX, in float64: what has a condition number beyond 1e8
    loses digits there, whichever way it is then solved.

    Args:
        alpha: weight ≥ 0 of the l1 penalty.
        l2: weight ≥ 0 of the quadratic penalty.
        budget: largest ‖w‖₁ of a target, > 0; None for none.
        fit_intercept: whether there is w₀, which is not penalised.
        tol: relative duality gap that every target must reach.
        solver: ``active_set`` goes to the last digits; ``admm`` takes all targets at once, and
            fewer digits.
        max_iter: of the solver; None for its own.

    Attributes:
        coef_: weights (p,), or (q, p) of several targets.
        intercept_: w₀, or (q,).
        gap_: relative duality gap of every target (q,): P(w) − P* is at most this share of P(w).
        dual_gap_: the gap itself, in the unit of the objective above (q,).
        certificate_: all that is known of the weights, a ``Certificate`` of the row solver.
        status_: ``optimal``, ``at_precision`` or ``inexact``.
        n_iter_: of the solver.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l2: float = 0.0,
        budget: float | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: Literal["active_set", "admm"] = "active_set",
        max_iter: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l2 = l2
        self.budget = budget
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> RowLasso:
        """Fit samples X (m, p) to targets y (m,) or (m, q).

        Raises:
            ValueError: the samples or targets are none that scikit-learn takes, or an argument is
                out of range.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        values, targets = checked(self, X, y, reset=True)
        single = targets.ndim == 1
        columns = targets.astype(np.float64).reshape(len(targets), -1)
        count, features = values.shape
        mean, offset = np.zeros(features), np.zeros(columns.shape[1])
        if self.fit_intercept:
            mean, offset = values.mean(axis=0), columns.mean(axis=0)
        # A constant feature is rounding once it is centred: zero it is.
        spread = np.abs(values - mean).max(axis=0, initial=0.0)
        varies = spread > 4 * np.finfo(np.float64).eps * np.abs(mean)
        centred = torch.from_numpy(np.where(varies, values - mean, 0.0))
        residual = torch.from_numpy(columns - offset)
        problem = RowRegression(
            gram=centred.t() @ centred,
            cross=residual.t() @ centred,
            target_square=residual.square().sum(dim=0),
            l1=float(self.alpha) * count,
            l2=float(self.l2) * count,
            budget=None if self.budget is None else RowBudget(features, float(self.budget)),
        )
        found = solve(problem, self._solver(), tol=self.tol, dtype=torch.float64)
        weights: Matrix = found.stored.numpy()
        certificate = found.certificate
        self.coef_ = weights[0] if single else weights
        intercept = offset - weights @ mean
        self.intercept_ = float(intercept[0]) if single else intercept
        objectives = certificate.row_objectives
        self.gap_ = (certificate.row_gaps / objectives.clamp(min=1e-300)).numpy()
        self.dual_gap_ = (certificate.row_gaps / count).numpy()
        self.certificate_, self.status_ = certificate, found.status
        self.n_iter_ = max(1, found.iterations)
        return self

    def predict(self, X: Any) -> Matrix:
        """Targets (m,) or (m, q), as they were fitted."""
        check_is_fitted(self)
        values = checked(self, X, reset=False)
        predicted: Matrix = values @ self.coef_.T + self.intercept_
        return predicted

    def _solver(self) -> BaseSolver:
        kinds: dict[str, type[BaseSolver]] = {"active_set": ActiveSetSolver, "admm": ADMMSolver}
        if self.solver not in kinds:
            raise ValueError(f"solver={self.solver!r}: choose from {', '.join(kinds)}")
        kind: Any = kinds[self.solver]
        made: BaseSolver = kind() if self.max_iter is None else kind(max_iter=self.max_iter)
        return made
