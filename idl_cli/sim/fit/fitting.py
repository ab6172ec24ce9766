"""From recorded statistics to an implicit model: [A B], its equilibria, [C D].

    [A B]:  minimise ½‖AX + BU − Z‖² + λ_z(‖A‖₁ + ‖B‖₁)  subject to ‖A‖∞ ≤ κ
    [C D]:  minimise ½‖CX + DU − Y‖² + λ_y(‖C‖₁ + ‖D‖₁)

where the X of the second stage are the equilibria of the trained (A, B), which is what the model
will see in use, or the teacher's own states (Tsai et al., arXiv 2209.09389).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning, NonFiniteError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.callbacks import SimCallbacks, Stage
from idl_cli.sim.fit.equilibria import usable_equilibria
from idl_cli.sim.fit.fits import Fit, StageFit, Starts
from idl_cli.sim.fit.fitted_model import assemble
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.fit.row_fit import relative_residual, residual_squares, row_r2
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.problem import RowBudget
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.solver import BaseSolver, Start
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.solvers.active_set import ActiveSetSolver
from idl_cli.sim.states.layout import StateLayout
from idl_cli.sim.states.recording import (
    OUTPUTS,
    PRE_ACTIVATIONS,
    DataPass,
    Loader,
    Recording,
    Statistics,
)


@dataclass(frozen=True, eq=False)
class FitSettings:
    """How both stages are solved, and what becomes of it.

    Args:
        solver: of both stages.
        options: λ, κ, tolerance.
        dtype: of the model.
        device: of the model.
        callbacks: told what happens.
        group: the processes that fit a model together, each of which makes the same calls and gets
            the same; of this one alone as a rule.
    """

    solver: BaseSolver
    options: SimOptions
    dtype: torch.dtype
    device: torch.device
    callbacks: SimCallbacks
    group: Group


def fit(
    recording: Recording,
    loader: Loader,
    settings: FitSettings,
    *,
    starts: Starts | None = None,
    limits: tuple[Tensor, Tensor] | None = None,
) -> Fit:
    """Solve both stages and put the model together.

    Args:
        recording: of the teacher's states.
        loader: the one they were recorded from, for the equilibria.
        settings: how.
        starts: where the solves begin, such as ``Fit.starts`` of another λ; None for nowhere.
        limits: non-zeros allowed in the rows (n,) of [A B] and (q,) of [C D], in place of the
            penalties; None for no limits.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    layout, options = recording.recorder.layout, settings.options
    start = None if starts is None else starts.ab
    limit = None if limits is None else limits[0]
    ab = _solve_stage("ab", recording.statistics, layout, settings, start, limit)

    def assembled(cd: Tensor | None) -> ImplicitModel:
        return assemble(
            ab.solution.stored,
            cd,
            layout,
            kappa=options.kappa,
            device=settings.device,
            factors=ab.solution.factors,
        )

    equilibria, seconds = None, 0.0
    if options.regenerate_states:
        started = time.perf_counter()
        data = DataPass(
            loader,
            options.samples,
            partial(settings.callbacks.on_samples, "equilibria"),
            settings.group,
        )
        equilibria = usable_equilibria(assembled(None), recording, data)
        seconds = time.perf_counter() - started
    statistics = recording.statistics if equilibria is None else equilibria.statistics
    start = None if starts is None else starts.cd
    limit = None if limits is None else limits[1]
    cd = _solve_stage("cd", statistics, layout, settings, start, limit)
    assert ab.problem is not None
    return Fit(
        options=options,
        model=assembled(cd.solution.stored),
        ab=ab,
        cd=cd,
        state_fit=relative_residual(
            ab.problem, residual_squares(ab.problem, ab.solution.weights), recording.scale
        ),
        equilibria=equilibria,
        seconds_equilibria=seconds,
    )


def _solve_stage(
    stage: Stage,
    statistics: Statistics,
    layout: StateLayout,
    settings: FitSettings,
    start: Start | None,
    limit: Tensor | None,
) -> StageFit:
    solver, options, callbacks = settings.solver, settings.options, settings.callbacks
    started = time.perf_counter()
    penalty = options.lambda_z if stage == "ab" else options.lambda_y
    problem = stage_problem(
        statistics,
        PRE_ACTIVATIONS if stage == "ab" else OUTPUTS,
        penalty=0.0 if limit is not None else penalty,
        scale=options.lambda_scale,
        l2=options.l2,
        budget=RowBudget(layout.state_dim, options.kappa) if stage == "ab" else None,
    )
    if limit is not None:
        problem = replace(problem, nonzeros=limit.to(problem.cross.device))

    every = callbacks.iterate_seconds
    checkpointing = Checkpointing(
        write=None if every is None else partial(callbacks.on_iterate, stage),
        every=0.0 if every is None else every,
        restored=callbacks.restored_iterate(stage),
    )
    with warnings.catch_warnings():
        # The stage is named in the warning below; what a solver ignores was said before the data.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = solve(
            problem,
            solver,
            tol=options.tol,
            max_time=options.max_time,
            dtype=settings.dtype,
            progress=partial(callbacks.on_progress, stage),
            warn=False,
            group=settings.group,
            checkpointing=checkpointing,
            start=start,
        )
    if solution.status == "failed":
        raise NonFiniteError(
            f"{type(solver).__name__} gave NaN or infinite weights for [{stage.upper()}]; choose "
            "another solver, or raise lambda_z and lambda_y"
        )
    if solution.status == "inexact":
        warn_inexact(f"[{stage[0].upper()} {stage[1].upper()}]", settings, solution)
    seconds = time.perf_counter() - started
    residual = residual_squares(problem, solution.weights)
    r2 = row_r2(problem, residual, count=statistics.count, has_constant=layout.has_bias)
    largest = float(problem.partition.whole_rows(problem.penalties).max())
    return StageFit(problem, solution, seconds, largest, r2)


def warn_inexact(what: str, settings: FitSettings, solution: Solution) -> None:
    """Say which part of a fit did not reach its tolerance, and what to do about it."""
    certificate, options = solution.certificate, settings.options
    warnings.warn(
        f"{what} is inexact: "
        f"{len(certificate.inexact_rows)} of {len(certificate.row_status)} rows did not reach "
        f"tol={options.tol:g} (relative gap {certificate.relative_gap:.1e}); "
        f"{_advice(settings.solver, solution, options.max_time)}",
        ConvergenceWarning,
        stacklevel=3,
    )


def _advice(solver: BaseSolver, solution: Solution, max_time: float | None) -> str:
    """What to do about an inexact answer, by what ended the solve."""
    if max_time is not None and solution.seconds >= max_time:
        return f"the limit max_time={max_time:g} s ended it: raise that, or tol"
    others = "" if isinstance(solver, ActiveSetSolver) else ", or use active_set"
    return f"raise solver.max_iter or tol{others}"


def with_penalties(options: SimOptions, lambda_z: float) -> SimOptions:
    """The same options at another λ_z; λ_y keeps its ratio to it."""
    ratio = options.lambda_y / options.lambda_z if options.lambda_z > 0 else 1.0
    return replace(options, lambda_z=lambda_z, lambda_y=ratio * lambda_z)
