"""Lasso packages on rows of [A B] without the budget, which none of them knows.

min ½‖Sᵀw − z‖² + λ‖w‖₁, one row at a time on the raw samples or their Gram matrix, float64, with
one thread each. Each package is asked for a tolerance of 1e-6 in its own sense; what it reached is
judged by the certificate that judges ours. Compiled packages have solved a small problem before.
"""

from __future__ import annotations

import importlib
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.solvers import ActiveSetSolver

PENALTIES = (10.0, 1.0)
ROWS = 4
SECONDS = 120.0
"""Of a package and penalty: no further row is begun beyond."""
TOL = 1e-6
ADELIE_TOL = 1e-11
"""Adelie's is absolute, in squares of the outputs: at 1e-6 it stops at a gap of 0.6."""
ITERATIONS = 20_000
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features S (m, D), their Gram matrix (D, D) and the targets (m, rows), float64."""

    features: Array
    gram: Array
    targets: Array


RowFit = Callable[[ModuleType, Samples, Array, float], Array]
"""The package's module, samples, a target (m,) and λ to weights (D,)."""


def _scikit_learn(module: ModuleType, samples: Samples, target: Array, penalty: float) -> Array:
    model = module.Lasso(
        alpha=penalty / len(target),
        fit_intercept=False,
        precompute=samples.gram,
        max_iter=ITERATIONS,
        tol=TOL,
    )
    return np.asarray(model.fit(samples.features, target).coef_)


def _on_samples(module: ModuleType, samples: Samples, target: Array, penalty: float) -> Array:
    """Celer and skglm, which name their settings alike."""
    model = module.Lasso(alpha=penalty / len(target), fit_intercept=False, tol=TOL)
    return np.asarray(model.fit(samples.features, target).coef_)


def _adelie(module: ModuleType, samples: Samples, target: Array, penalty: float) -> Array:
    count = len(target)
    state = module.solver.gaussian_cov(
        np.asfortranarray(samples.gram / count),
        samples.features.T @ target / count,
        lmda_path=np.array([penalty / count]),
        tol=ADELIE_TOL,
        early_exit=False,
        progress_bar=False,
    )
    return np.asarray(state.betas.toarray()[-1])


PACKAGES: Mapping[str, tuple[str, RowFit]] = MappingProxyType(
    {
        "scikit-learn, Gram": ("sklearn.linear_model", _scikit_learn),
        "skglm": ("skglm", _on_samples),
        "adelie, Gram": ("adelie", _adelie),
        "celer": ("celer", _on_samples),
    }
)


def measure(problems: Mapping[float, RowRegression], samples: Samples) -> list[dict[str, object]]:
    """Ours on all rows and each installed package on some, at every penalty.

    Args:
        problems: by λ, without a budget.
        samples: that their statistics are of.

    Returns:
        A row a package and λ: processor seconds a row (median), for all rows, and the relative gap.
    """
    found = []
    for penalty, problem in problems.items():
        started = time.process_time()
        solution = solve(problem, ActiveSetSolver())
        seconds = (time.process_time() - started) / problem.rows
        found.append(_row("active_set", problem, solution.weights, penalty, seconds, problem.rows))
    for name, (module_name, fit) in PACKAGES.items():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            print(f"{name}: not measured ({error})", flush=True)
            continue
        _warm_up(module, fit)
        for penalty, problem in problems.items():
            found.append(_measured(name, module, fit, problem, samples, penalty))
    return found


def _warm_up(module: ModuleType, fit: RowFit) -> None:
    features = np.asfortranarray(np.random.default_rng(0).standard_normal((30, 5)))
    fit(module, Samples(features, features.T @ features, features), features @ np.ones(5), 1.0)


def _measured(
    name: str,
    module: ModuleType,
    fit: RowFit,
    problem: RowRegression,
    samples: Samples,
    penalty: float,
) -> dict[str, object]:
    weights, chosen, seconds = [], [], []
    for row in np.linspace(0, problem.rows - 1, ROWS).astype(int):
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged: the certificate says how far
            weights.append(fit(module, samples, samples.targets[:, row].copy(), penalty))
        seconds.append(time.process_time() - started)
        chosen.append(int(row))
        if sum(seconds) > SECONDS:
            break
    part = problem.select(torch.tensor(chosen))
    answer = torch.from_numpy(np.stack(weights))
    each = statistics.median(seconds)
    return _row(name, part, answer, penalty, each, problem.rows)


def _row(
    name: str,
    problem: RowRegression,
    weights: torch.Tensor,
    penalty: float,
    seconds: float,
    rows: int,
) -> dict[str, object]:
    certificate = certify(problem, weights)
    row: dict[str, object] = {
        "package": name,
        "lambda": penalty,
        "rows_solved": problem.rows,
        "processor_seconds_a_row": seconds,
        "processor_seconds": seconds * rows,
        "relative_gap": certificate.relative_gap,
    }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row
