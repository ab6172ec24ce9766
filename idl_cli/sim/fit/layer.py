"""One layer of a model whose layers are fitted one after another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from idl_cli.errors import NonFiniteError
from idl_cli.sim.fit.callbacks import Stage
from idl_cli.sim.fit.fitting import FitSettings
from idl_cli.sim.fit.row_fit import residual_squares, row_r2
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.solver import Start


@dataclass(frozen=True, eq=False)
class LayerFit:
    """A layer's answer, without the sums it is of.

    Attributes:
        solution: of the layer's rows.
        r2: of every row against the teacher (rows,).
        residual: Σ‖r‖² of all rows.
        target: Σ‖z‖² of all rows.
        penalty: λ of the row where it is largest.
        seconds: that the statistics and the solve took.
    """

    solution: Solution
    r2: Tensor
    residual: float
    target: float
    penalty: float
    seconds: float


def fit_layer(
    problem: RowRegression,
    settings: FitSettings,
    stage: Stage,
    start: Start | None,
    *,
    count: int,
    has_constant: bool,
    started: float,
    warn: bool = True,
) -> LayerFit:
    """Solve a layer's problem.

    Args:
        problem: of the layer's rows.
        settings: how.
        stage: that the layer belongs to.
        start: where the solver begins.
        count: samples that the problem is of.
        has_constant: whether the last feature is a constant 1.
        started: ``time.perf_counter()`` when the layer's statistics were begun.
        warn: whether parts of the problem that the solver ignores are told.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    solution = solve(
        problem,
        settings.solver,
        tol=settings.options.tol,
        max_time=settings.options.max_time,
        dtype=settings.dtype,
        progress=partial(settings.callbacks.on_progress, stage),
        warn=warn,
        group=settings.group,
        start=start,
    )
    if solution.status == "failed":
        raise NonFiniteError(
            f"{type(settings.solver).__name__} gave NaN or infinite weights for a layer of "
            f"[{stage.upper()}]; choose another solver, or set trainer.l2 above 0"
        )
    residual = residual_squares(problem, solution.weights)
    return LayerFit(
        solution,
        row_r2(problem, residual, count=count, has_constant=has_constant),
        float(residual.sum()),
        float(problem.target_square.sum()),
        float(problem.penalties.max()),
        time.perf_counter() - started,
    )
