"""Accelerated proximal gradient on all rows at once, with a restart of each row on its own.

Beck, Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems",
SIAM J. Imaging Sci. 2(1), 2009; O'Donoghue, Candès, "Adaptive Restart for Accelerated Gradient
Schemes", Found. Comput. Math. 15, 2015, §3.2 (gradient scheme).
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.solvers.scaling import ScaledProblem


class AcceleratedRows:
    """Iterates of the rows that are still worked on, from zero, in unit-diagonal coordinates.

    Restarting makes the rate linear without knowing the curvature on the support: a row forgets
    its momentum as soon as the momentum points uphill.

    Args:
        problem: what to minimise.
    """

    def __init__(self, problem: RowRegression) -> None:
        self._problem = problem
        self._scaled = ScaledProblem.of(problem)
        self._lipschitz = largest_eigenvalue(self._scaled.gram)
        self._all = torch.zeros_like(self._scaled.cross)
        self._active = torch.arange(problem.rows, device=problem.cross.device)
        self._cross = self._scaled.cross
        self._penalties = problem.penalties[:, None]
        self._point = self._all.clone()
        self._extrapolated = self._point
        self._momentum = self._point.new_ones(problem.rows, 1)

    @property
    def weights(self) -> Tensor:
        """Of all rows, feasible, in the problem's own coordinates (rows, D) float64."""
        self._all[self._active] = self._point
        return self._scaled.to_weights(self._all)

    def retire(self, solved: Tensor) -> None:
        """Leave rows as they are from now on.

        Args:
            solved: (rows,) bool, of all rows.
        """
        keep = ~solved[self._active]
        if bool(keep.all()):
            return
        self._all[self._active] = self._point
        self._active = self._active[keep]
        self._cross = self._cross[keep]
        self._penalties = self._penalties[keep]
        self._point = self._point[keep]
        self._extrapolated = self._extrapolated[keep]
        self._momentum = self._momentum[keep]

    def step(self) -> None:
        """One gradient and one prox of every active row."""
        step = 1.0 / self._lipschitz
        descent = torch.addmm(self._cross, self._extrapolated, self._scaled.gram, alpha=-1.0)
        point = prox_rows(
            torch.add(self._extrapolated, descent, alpha=step),
            step * self._penalties,
            self._problem.budget,
            self._scaled.cost,
        )
        moved = point - self._point
        uphill = ((self._extrapolated - point) * moved).sum(dim=1, keepdim=True) > 0
        following = 0.5 * (1 + (1 + 4 * self._momentum.square()).sqrt())
        inertia = (self._momentum - 1) / following
        self._momentum = torch.where(uphill, torch.ones_like(following), following)
        self._extrapolated = torch.addcmul(point, inertia.masked_fill(uphill, 0.0), moved)
        self._point = point


def largest_eigenvalue(matrix: Tensor) -> float:
    """Of a positive semi-definite matrix; 1 for a zero one, where any step length serves."""
    if matrix.numel() == 0:
        return 1.0
    value = float(torch.linalg.eigvalsh(matrix)[-1])
    # Round-off of the eigenvalue itself: a step must not be too long by that much.
    value *= 1 + 1e-10
    return value if value > 0 else 1.0
