"""From recorded statistics to an implicit model: [A B], its equilibria, [C D].

    [A B]:  minimise ½‖AX + BU − Z‖² + λ_z(‖A‖₁ + ‖B‖₁)  subject to ‖A‖∞ ≤ κ
    [C D]:  minimise ½‖CX + DU − Y‖² + λ_y(‖C‖₁ + ‖D‖₁)

where the X of the second stage are the equilibria of the trained (A, B), which is what the model
will see in use, or the teacher's own states (Tsai et al., arXiv 2209.09389).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning, NonFiniteError, WellPosednessWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.assembly import assemble
from idl_cli.sim.joint import own_rows, total
from idl_cli.sim.judge import HistoryEntry, Keeping
from idl_cli.sim.options import SimOptions
from idl_cli.sim.problem import RowBudget, RowRegression
from idl_cli.sim.recording import (
    OUTPUTS,
    PRE_ACTIVATIONS,
    Equilibria,
    Loader,
    Recording,
    Statistics,
    record_equilibria,
)
from idl_cli.sim.solve import Solution, solve
from idl_cli.sim.solvers.base import BaseSolver, Start

Stage = Literal["ab", "cd"]
Pass = Literal["states", "equilibria"]


class SimCallbacks:
    """Listens to a training; every method does nothing until a subclass overrides it."""

    def on_samples(self, name: Pass, count: int) -> None:
        """After each batch of a pass over the data: how many samples it has seen."""

    def on_progress(self, stage: Stage, entry: HistoryEntry) -> None:
        """Whenever a stage's weights were judged."""

    iterate_seconds: float | None = None
    """Seconds between two calls of ``on_iterate``; None for no calls."""

    def on_iterate(self, stage: Stage, state: Mapping[str, Tensor]) -> None:
        """Now and then during a solve that can be continued: what ``kept_iterate`` shall return.

        In a group all processes are told the same, at the same time.
        """

    def kept_iterate(self, stage: Stage) -> Mapping[str, Tensor] | None:
        """What an interrupted training of the same problem was last told; None to start anew."""
        return None


@dataclass(frozen=True, eq=False)
class StageFit:
    """The answer of one stage.

    Attributes:
        problem: what was solved; of this process's rows where the statistics are split.
        solution: weights and certificate.
        seconds: wall-clock time, the certificate included.
    """

    problem: RowRegression
    solution: Solution
    seconds: float


@dataclass(frozen=True, eq=False)
class Starts:
    """Where the solves of both stages begin.

    Attributes:
        ab: of stage [A B].
        cd: of stage [C D].
    """

    ab: Start
    cd: Start

    @classmethod
    def zero(cls, recording: Recording) -> Starts:
        """All weights zero: the answer at λ_max, where a path begins; of the rows of all ranks."""
        layout, gram = recording.recorder.layout, recording.statistics.gram
        rows = (layout.state_dim, layout.output_dim)
        ab, cd = (gram.new_zeros(count, layout.feature_dim) for count in rows)
        return cls(Start(ab), Start(cd))


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained implicit model and how it came about.

    Attributes:
        options: what was asked for; its λ are those of this fit.
        model: in the dtype asked for.
        ab: stage [A B].
        cd: stage [C D].
        state_fit: ‖AX + BU − Z‖_F / ‖Z‖_F over all states, in the teacher's own units.
        equilibria: of the second pass; None where C and D were fitted on the teacher's states.
        seconds_equilibria: wall-clock time of the second pass.
    """

    options: SimOptions
    model: ImplicitModel
    ab: StageFit
    cd: StageFit
    state_fit: float
    equilibria: Equilibria | None
    seconds_equilibria: float

    @property
    def starts(self) -> Starts:
        """Where a fit at another λ may begin."""
        ab, cd = self.ab.solution.start, self.cd.solution.start
        assert ab is not None
        assert cd is not None
        return Starts(ab, cd)

    @property
    def nonzeros(self) -> int:
        """Entries of A, B, C, D and the biases that are not zero."""
        return sum(int((w != 0).sum()) for w in (self.ab.solution.stored, self.cd.solution.stored))

    @property
    def nonzero_fraction(self) -> float:
        """Share of the entries of A, B, C, D and the biases that are not zero."""
        weights = (self.ab.solution.stored, self.cd.solution.stored)
        return self.nonzeros / sum(w.numel() for w in weights)


def fit(
    recording: Recording,
    loader: Loader,
    solver: BaseSolver,
    options: SimOptions,
    *,
    dtype: torch.dtype,
    device: torch.device,
    callbacks: SimCallbacks,
    group: Group | None = None,
    starts: Starts | None = None,
) -> Fit:
    """Solve both stages and put the model together.

    Args:
        recording: of the teacher's states.
        loader: the one they were recorded from, for the equilibria.
        solver: for both stages.
        options: λ, κ, tolerance.
        dtype: of the model.
        device: of the model.
        callbacks: told what happens.
        group: the processes that fit this model together, each of which calls this function and
            gets the same; None for this one alone.
        starts: where the solves begin, such as ``Fit.starts`` of another λ; None for nowhere.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    layout = recording.recorder.layout
    budget = RowBudget(layout.state_dim, options.kappa)
    ab = _solve_stage(
        "ab",
        recording.statistics,
        PRE_ACTIVATIONS,
        budget,
        solver,
        options,
        dtype,
        callbacks,
        group,
        None if starts is None else starts.ab,
    )
    equilibria, seconds = None, 0.0
    if options.regenerate_states:
        started = time.perf_counter()
        half_made = assemble(
            ab.solution.stored,
            None,
            layout,
            kappa=options.kappa,
            device=device,
            factors=ab.solution.factors,
        )
        equilibria = _equilibria(half_made, recording, loader, options, callbacks, group)
        seconds = time.perf_counter() - started
    statistics = recording.statistics if equilibria is None else equilibria.statistics
    cd = _solve_stage(
        "cd",
        statistics,
        OUTPUTS,
        None,
        solver,
        options,
        dtype,
        callbacks,
        group,
        None if starts is None else starts.cd,
    )
    return Fit(
        options=options,
        model=assemble(
            ab.solution.stored,
            cd.solution.stored,
            layout,
            kappa=options.kappa,
            device=device,
            factors=ab.solution.factors,
        ),
        ab=ab,
        cd=cd,
        state_fit=_relative_residual(ab, recording.scale),
        equilibria=equilibria,
        seconds_equilibria=seconds,
    )


def _solve_stage(
    stage: Stage,
    statistics: Statistics,
    target: str,
    budget: RowBudget | None,
    solver: BaseSolver,
    options: SimOptions,
    dtype: torch.dtype,
    callbacks: SimCallbacks,
    group: Group | None,
    start: Start | None,
) -> StageFit:
    started = time.perf_counter()
    problem = RowRegression.from_statistics(
        statistics,
        target,
        penalty=options.lambda_z if stage == "ab" else options.lambda_y,
        scale=options.lambda_scale,
        l2=options.l2,
        budget=budget,
    )

    def progress(entry: HistoryEntry) -> None:
        callbacks.on_progress(stage, entry)

    def keep(state: Mapping[str, Tensor]) -> None:
        callbacks.on_iterate(stage, state)

    every = callbacks.iterate_seconds
    keeping = Keeping(
        keep=None if every is None else keep,
        every=0.0 if every is None else every,
        kept=callbacks.kept_iterate(stage),
    )

    with warnings.catch_warnings():
        # The stage is named in the warning below; what a solver ignores was said before the data.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = solve(
            problem,
            solver,
            tol=options.tol,
            max_time=options.max_time,
            dtype=dtype,
            progress=progress,
            warn=False,
            group=group,
            keeping=keeping,
            start=start,
        )
    if solution.status == "failed":
        raise NonFiniteError(
            f"{type(solver).__name__} gave NaN or infinite weights for [{stage.upper()}]; choose "
            "another solver, or raise lambda_z and lambda_y"
        )
    if solution.status == "inexact":
        certificate = solution.certificate
        gap = certificate.relative_gap
        reached = (
            f"KKT residual {certificate.kkt_residual:.1e}"
            if gap is None
            else f"relative gap {gap:.1e}"
        )
        warnings.warn(
            f"[{stage[0].upper()} {stage[1].upper()}] is inexact: "
            f"{len(certificate.inexact_rows)} of {len(certificate.row_status)} rows did not reach "
            f"tol={options.tol:g} ({reached}); raise solver.max_iter or tol, or use active_set",
            ConvergenceWarning,
            stacklevel=2,
        )
    return StageFit(problem, solution, time.perf_counter() - started)


def _equilibria(
    model: ImplicitModel,
    recording: Recording,
    loader: Loader,
    options: SimOptions,
    callbacks: SimCallbacks,
    group: Group | None,
) -> Equilibria | None:
    """The second pass; None, with a warning, where the equilibria cannot be used."""

    def on_samples(count: int) -> None:
        callbacks.on_samples("equilibria", count)

    norm = model.inf_norm_A()
    contractive = norm * model.activation.lipschitz < 1
    model.solve_statistics.warn = False  # said below, with what it means here
    try:
        found = record_equilibria(
            model,
            recording,
            loader,
            samples=options.samples,
            on_samples=on_samples,
            group=group,
        )
    except NonFiniteError:
        warnings.warn(
            f"||A||_inf = {norm:.4g} >= 1 and equilibria of (A, B) diverge on the data: C and D "
            "were fitted on the teacher's own states, and the model has no prediction where its "
            "equilibrium diverges; use a solver that honours ||A||_inf <= kappa",
            WellPosednessWarning,
            stacklevel=2,
        )
        return None
    count = found.statistics.count
    if found.unconverged:
        warnings.warn(
            f"{found.unconverged} of {count} equilibria did not converge (largest residual "
            f"{found.residual_max:.1e}, ||A||_inf = {norm:.4g}): predictions there depend on where "
            "the iteration stops; "
            + ("lower kappa" if contractive else "use a solver that honours ||A||_inf <= kappa"),
            ConvergenceWarning if contractive else WellPosednessWarning,
            stacklevel=2,
        )
    elif not contractive:
        warnings.warn(
            f"||A||_inf = {norm:.4g} >= 1: a unique equilibrium is not guaranteed, though all "
            f"{count} equilibria of the recorded samples converged",
            WellPosednessWarning,
            stacklevel=2,
        )
    return found


def _relative_residual(stage: StageFit, scale: Tensor) -> float:
    """√(Σ‖residual‖² / Σ‖target‖²), each row in the units it had before it was divided by scale."""
    problem = stage.problem
    weights = own_rows(problem, stage.solution.weights)
    quadratic = ((problem.multiply(weights) - problem.l2 * weights) * weights).sum(dim=1)
    squares = problem.target_square - 2 * (problem.cross * weights).sum(dim=1) + quadratic
    units = own_rows(problem, scale).to(squares).square()
    sums = torch.stack(
        [(squares.clamp(min=0) * units).sum(), (problem.target_square * units).sum()]
    )
    residual, target = total(problem, sums).tolist()
    return float(residual / target) ** 0.5 if target > 0 else 0.0


def with_penalties(options: SimOptions, lambda_z: float) -> SimOptions:
    """The same options at another λ_z; λ_y keeps its ratio to it."""
    ratio = options.lambda_y / options.lambda_z if options.lambda_z > 0 else 1.0
    return replace(options, lambda_z=lambda_z, lambda_y=ratio * lambda_z)
