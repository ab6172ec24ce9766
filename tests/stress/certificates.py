"""Random row problems: what is called optimal is, by an interior-point method in long doubles."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from idl_cli.sim import solvers
from idl_cli.sim.regression.solve import solve
from tests.sim.problem_bank import BankProblem, optimum_of, planted
from tests.stress.pool import results

_SOLVERS = ("ActiveSetSolver", "ADMMSolver", "CVXSolver")
_TOL = 1e-6
_ROUND_OFF = 1e-10  # of the data's own size: what the reference itself is good to


def problem(rng: np.random.Generator) -> BankProblem:
    """A problem of random size, scale, conditioning, penalty and budget."""
    samples = int(rng.choice([1, 5, 12, 40, 120]))
    made = planted(
        "random", int(rng.integers(2**31)), samples=samples, noise=float(rng.choice([0, 0.1, 1]))
    )
    features = made.samples
    spread = float(rng.choice([0, 0, 2, 4]))
    units = 10.0 ** torch.from_numpy(rng.uniform(-spread / 2, spread / 2, len(features)))
    features = features * units[:, None] * 10.0 ** float(rng.choice([0, 0, -3, 3]))
    if rng.random() < 0.3:
        features[3] = features[2] * (1 + 10.0 ** float(rng.uniform(-12, -2)))
    targets = made.targets * 10.0 ** float(rng.choice([0, 0, -4, 4]))
    limit = float((features @ targets.T).abs().max())
    return BankProblem(
        "random",
        features,
        targets,
        l1=limit * 10.0 ** float(rng.uniform(-6, 0.05)),
        radius=None if rng.random() < 0.3 else 10.0 ** float(rng.uniform(-2, 2)),
    )


def make_call(seed: int) -> Callable[[int], list[tuple[str, str, str]]]:
    """A function from a trial's number to (solver, outcome, detail) of every solver."""
    torch.set_num_threads(1)

    def call(index: int) -> list[tuple[str, str, str]]:
        bank = problem(np.random.default_rng([seed, index]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solutions = {
                name: solve(bank.regression, getattr(solvers, name)(), tol=_TOL, max_time=20.0)
                for name in _SOLVERS
            }
            points = [each.weights for each in solutions.values() if each.certificate.feasible]
            try:
                points.append(optimum_of(bank))
            except Exception as error:  # the reference's own: the best of the solvers stands
                points += [] if points else [torch.full_like(bank.targets[:, :1], float("nan"))]
                note = f"no reference ({type(error).__name__})"
            else:
                note = ""
        objectives = [_objective(bank, point) for point in points if point.shape[1] > 1]
        return [(name, *_judged(bank, each, objectives, note)) for name, each in solutions.items()]

    return call


def _objective(bank: BankProblem, weights: torch.Tensor) -> np.ndarray:
    """P(w_i) of every row in long doubles, from the samples."""
    samples, targets, rows = (
        each.numpy().astype(np.longdouble) for each in (bank.samples, bank.targets, weights)
    )
    residual = rows @ samples - targets
    return np.asarray(0.5 * (residual**2).sum(1) + np.longdouble(bank.l1) * np.abs(rows).sum(1))


def _judged(
    bank: BankProblem, solution: Any, objectives: list[np.ndarray], note: str
) -> tuple[str, str]:
    if solution.status != "optimal":
        return solution.status, note
    found, best = _objective(bank, solution.weights).sum(), sum(np.min(objectives, axis=0))
    size = float(bank.targets.square().sum())
    excess = float(found - best)
    if excess > _TOL * float(best) * (1 + 1e-3) + _ROUND_OFF * size:
        return (
            "false optimal",
            f"{excess:.3g} above {float(best):.6g}; ‖z‖² {size:.3g}, l1 {bank.l1:.3g}",
        )
    claimed = abs(solution.certificate.objective - float(found))
    if claimed > 1e-9 * float(found) + 1e-12 * size:
        return (
            "false objective",
            f"says {solution.certificate.objective:.12g}, is {float(found):.12g}",
        )
    return "optimal", note


def run(
    *, seed: int, count: int | None, seconds: float, processes: int, first: int = 0
) -> dict[str, Any]:
    """Solve random problems until their number or the time is reached."""
    end = time.monotonic() + seconds
    numbers = range(first, first + count) if count is not None else itertools.count(first)
    trials = itertools.takewhile(lambda _: count is not None or time.monotonic() < end, numbers)
    totals: dict[str, Counter[str]] = {name: Counter() for name in _SOLVERS}
    bad, problems = [], 0
    for index, result in results(make_call, (seed,), trials, processes=processes, seconds=180.0):
        problems += 1
        for name, outcome, detail in result if isinstance(result, list) else [("", result, "")]:
            totals.setdefault(name, Counter())[outcome] += 1
            if outcome.startswith("false") or not name:
                bad.append(f"trial {index}, {name}: {outcome}: {detail}")
    whole = sum(totals.values(), Counter())
    return {
        "problems": problems,
        "optimal": whole["optimal"],
        "false optimal": whole["false optimal"],
        "false objective": whole["false objective"],
        "faults": len(bad),
        "solvers": {name: dict(each) for name, each in totals.items()},
        "bad": bad[:100],
    }
