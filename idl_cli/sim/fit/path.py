"""A path of λ from λ_max, where all weights are zero, down: each fit begins at the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from idl_cli.config.check import mistakes
from idl_cli.errors import ArgumentError
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.fits import Fit, Starts
from idl_cli.sim.fit.fitting import with_penalties
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.options import PathOptions
from idl_cli.sim.regression.problem import LambdaScale, RowRegression
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.sim import SIM
from idl_cli.sim.states.convolution_recording import AnyRecording, ConvolutionRecording
from idl_cli.sim.states.recording import PRE_ACTIVATIONS, Loader
from idl_cli.sim.statistics.patches import TARGET


@dataclass(frozen=True, kw_only=True)
class PathGrid(PathOptions):
    """λ_max·smallest^(k/points), k = 1 … points; λ_max itself gives no weights and is left out.

    Args:
        points: how many.
        smallest: the last, relative to λ_max, in (0, 1).
    """

    def __post_init__(self) -> None:
        if mistakes(PathOptions, vars(self), alone=True):
            raise ArgumentError(
                f"PathGrid: points={self.points} must be >= 1, smallest={self.smallest} in (0, 1)"
            )

    def values(self, recording: AnyRecording, scale: LambdaScale) -> tuple[float, ...]:
        """The grid's λ_z in units of ``scale``, descending."""
        relative = [self.smallest ** (k / self.points) for k in range(1, self.points + 1)]
        if scale == "relative":
            return tuple(relative)
        largest = max(
            problem.lambda_max / (count if scale == "per_sample" else 1)
            for problem, count in _hidden_problems(recording)
        )
        return tuple(largest * each for each in relative)


def _hidden_problems(
    recording: AnyRecording,
) -> Iterator[tuple[RowRegression, int]]:
    """The problems of the hidden rows, unpenalised, and the samples that each has."""
    if isinstance(recording, ConvolutionRecording):
        parts, target = recording.statistics[:-1], TARGET
        yield from ((stage_problem(part, target, penalty=0.0), part.count) for part in parts)
        return
    whole = recording.statistics
    yield stage_problem(whole, PRE_ACTIVATIONS, penalty=0.0), whole.count


def fit_path(
    sim: SIM,
    recording: AnyRecording,
    penalties: Sequence[float],
    *,
    dataloader: Loader,
    solver: BaseSolver,
    options: SimOptions,
    callbacks: SimCallbacks,
) -> Iterator[Fit]:
    """Fit at every λ_z, the largest first, each from the answer before; each is certified.

    The answers are those of fits on their own. Only the last fit is held here, so that memory does
    not grow with the number of λ.

    Args:
        sim: the training.
        recording: of the states, shared by all fits.
        penalties: λ_z in units of ``options.lambda_scale``; λ_y keeps its ratio to it. With a
            limit on non-zeros: the shares to keep, from dense to sparse with one elimination.
        dataloader: the loader that the recording was made with.
        solver: of all problems; one without ``solve_from`` begins anew each time.
        options: of the fits, but for λ.
        callbacks: told what happens.

    Raises:
        ArgumentError: no penalties.
    """
    if not penalties:
        raise ArgumentError("a path needs at least one penalty")
    starts = None if isinstance(recording, ConvolutionRecording) else Starts.zero(recording)
    limited = options.nonzeros is not None
    for penalty in sorted(penalties, reverse=True):
        found = sim.fit(
            recording,
            dataloader=dataloader,
            solver=solver,
            options=replace(options, nonzeros=penalty)
            if limited
            else with_penalties(options, penalty),
            callbacks=callbacks,
            starts=starts,
        )
        starts = found.starts
        yield found


def path_row(found: Fit) -> dict[str, object]:
    """One fit of a path as plain values: λ, size, certificates, seconds."""
    row: dict[str, object] = {
        **asked(found.options),
        "nonzeros": found.nonzeros,
        "nonzero_fraction": found.nonzero_fraction,
        "state_fit": found.state_fit,
        "inf_norm_A": found.model.inf_norm_A(),
    }
    for name, stage in (("ab", found.ab), ("cd", found.cd)):
        certificate = stage.solution.certificate
        row |= {
            f"{name}_lambda": stage.penalty,
            f"{name}_worst_row_r2": float(stage.row_r2.min()),
            f"{name}_objective": certificate.objective,
            f"{name}_relative_gap": certificate.relative_gap,
            f"{name}_kkt_residual": certificate.kkt_residual,
            f"{name}_status": stage.solution.status,
            f"seconds_{name}": stage.seconds,
        }
    row["seconds_equilibria"] = found.seconds_equilibria
    return row


def asked(options: SimOptions) -> dict[str, object]:
    """What tells a fit from the others of its path."""
    if options.nonzeros is not None:
        return {"nonzeros_asked": options.nonzeros}
    return {"lambda_z": options.lambda_z, "lambda_y": options.lambda_y}
