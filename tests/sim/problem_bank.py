"""Small row problems that solvers find hard, with their optima by CVXPY on the raw samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget, RowRegression

BUDGETED, OTHERS, ROWS, SAMPLES = 8, 6, 5, 60


@dataclass(frozen=True, eq=False)
class BankProblem:
    """A row problem in terms of its samples.

    Attributes:
        name: what is hard about it.
        samples: S (D, m) float64.
        targets: Z (rows, m) float64.
        l1: λ.
        l2: weight of the elastic net.
        radius: of the budget; None for none.
        count: number of budgeted weights.
    """

    name: str
    samples: Tensor
    targets: Tensor
    l1: float = 1.0
    l2: float = 0.0
    radius: float | None = 0.9
    count: int = BUDGETED

    @property
    def regression(self) -> RowRegression:
        return RowRegression(
            gram=self.samples @ self.samples.T,
            cross=self.targets @ self.samples.T,
            target_square=self.targets.square().sum(dim=1),
            l1=self.l1,
            l2=self.l2,
            budget=None if self.radius is None else RowBudget(self.count, self.radius),
        )

    def objective(self, weights: Tensor) -> Tensor:
        """P(w_i) of every row (rows,), from the samples."""
        residual = weights @ self.samples - self.targets
        return (
            0.5 * residual.square().sum(dim=1)
            + self.l1 * weights.abs().sum(dim=1)
            + 0.5 * self.l2 * weights.square().sum(dim=1)
        )


def planted(
    name: str,
    seed: int,
    *,
    samples: int = SAMPLES,
    rows: int = ROWS,
    noise: float = 0.1,
    features: Tensor | None = None,
    **settings: float | None,
) -> BankProblem:
    """Targets that follow from three in ten of the features, and noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if features is None:
        features = normal(BUDGETED + OTHERS, samples)
    sparse = torch.rand(rows, len(features), generator=generator) < 0.3
    units = features.square().mean(dim=1).sqrt().clamp(min=1e-12)
    weights = normal(rows, len(features)) * sparse / units
    targets = weights @ features + noise * normal(rows, features.shape[1])
    return replace(BankProblem(name, features, targets), **settings)  # type: ignore[arg-type]


def _problems() -> Iterator[BankProblem]:
    normal = planted("planted sparse", 0, radius=100.0)
    features = normal.samples
    yield normal
    yield planted("budget active", 1, radius=0.3)
    yield planted("budget inactive", 2, radius=1e3)
    yield planted("no budget", 3, radius=None)
    yield planted("budget on all weights", 4, count=BUDGETED + OTHERS)
    limit = normal.regression.lambda_max
    yield replace(normal, name="λ = λ_max", l1=limit)
    yield replace(normal, name="λ > λ_max", l1=1.5 * limit)
    yield replace(normal, name="λ just below λ_max", l1=0.99 * limit)
    yield planted("duplicated features", 5, features=features[[0, 1, 2, 3, 0, 0, 4, 5, 6, 7, 6, 4]])
    zeros = features.clone()
    zeros[[1, 10]] = 0.0
    yield planted("zero features", 6, features=zeros)
    low = torch.linalg.matrix_power(features[:, :14] / 10, 2)[:, :4] @ features[:4]
    yield planted("rank-deficient", 7, features=low)
    yield planted("fewer samples than features", 8, samples=9, l1=0.1)
    yield planted("one row", 9, rows=1)
    yield planted("one sample", 10, samples=1, l1=0.01)
    spread = torch.logspace(-3, 3, len(features), dtype=torch.float64)
    yield planted("features of units 1e6 apart", 11, features=spread[:, None] * features, l1=1e-2)
    mixed = planted("", 12)
    units = torch.logspace(-3, 3, ROWS, dtype=torch.float64)[:, None]
    yield replace(mixed, name="targets of units 1e6 apart", targets=units * mixed.targets)
    dead = mixed.targets.clone()
    dead[[1, 3]] = 0.0
    yield replace(mixed, name="dead rows", targets=dead)
    yield planted("exact fit", 13, noise=0.0, radius=100.0, l1=1e-3)
    yield planted("exact fit without penalty", 14, noise=0.0, radius=100.0, l1=0.0)
    yield planted("no penalty", 15, l1=0.0)
    yield planted("no penalty, no budget", 16, l1=0.0, radius=None)
    yield planted("no penalty, fewer samples than features", 17, l1=0.0, samples=9, radius=0.5)
    yield planted("elastic net", 18, l2=5.0)
    yield planted("elastic net, rank-deficient", 19, features=low, l2=0.5, l1=0.1)
    yield planted("tiny penalty", 20, l1=1e-6)


BANK: dict[str, BankProblem] = {each.name: each for each in _problems()}


@cache
def optimum(name: str) -> Tensor:
    """Weights (rows, D) of the named problem at its optimum, feasible exactly."""
    return optimum_of(BANK[name])


def optimum_of(bank: BankProblem) -> Tensor:
    """Weights (rows, D) of a problem at its optimum, feasible exactly.

    An interior-point method on the samples themselves: it shares neither statistics nor prox with
    the solvers. Features and targets are brought to unit norm, which only changes units.
    """
    units = bank.samples.norm(dim=1)
    units = torch.where(units > 0, units, 1.0).numpy()
    norms = bank.targets.norm(dim=1)
    solution = [
        _row_optimum(bank, row, units, float(norm) if norm > 0 else 1.0)
        for row, norm in enumerate(norms)
    ]
    weights = torch.from_numpy(np.stack(solution))
    if bank.radius is not None:
        leading = weights[:, : bank.count]
        excess = (leading.abs().sum(dim=1, keepdim=True) / bank.radius).clamp(min=1.0)
        leading /= excess
    return weights


def _row_optimum(bank: BankProblem, row: int, units: np.ndarray, norm: float) -> np.ndarray:
    samples = bank.samples.numpy() / units[:, None]
    variable = cp.Variable(len(samples))
    magnitude = cp.multiply(1 / units, cp.abs(variable))
    objective = 0.5 * cp.sum_squares(samples.T @ variable - bank.targets[row].numpy() / norm)
    objective += bank.l1 / norm * cp.sum(magnitude)
    objective += 0.5 * bank.l2 * cp.sum_squares(cp.multiply(1 / units, variable))
    constraints = []
    if bank.radius is not None:
        constraints = [cp.sum(magnitude[: bank.count]) <= bank.radius / norm]
    cp.Problem(cp.Minimize(objective), constraints).solve(
        solver=cp.CLARABEL,
        tol_gap_abs=1e-12,
        tol_gap_rel=1e-12,
        tol_feas=1e-12,
        # Where rounding ends the iterations earlier, what was reached is still good to 1e-9.
        reduced_tol_gap_abs=1e-9,
        reduced_tol_gap_rel=1e-9,
        reduced_tol_feas=1e-9,
    )
    return np.asarray(variable.value) / units * norm
