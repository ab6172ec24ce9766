"""What a training leaves to read: the section ``sim`` of ``summary.json``."""

from __future__ import annotations

from dataclasses import asdict

from idl_cli.sim.fit.fits import Fit, StageFit
from idl_cli.sim.fit.row_fit import POOR_FIT
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.states.convolution_recording import AnyRecording


def report_of(fit: Fit, recording: AnyRecording, solver: BaseSolver) -> dict[str, object]:
    """Plain values under the names of the run directory's contract.

    Args:
        fit: of the model.
        recording: of the states.
        solver: of both stages.
    """
    options = fit.options
    report: dict[str, object] = {
        "solver": solver_name(solver) or type(solver).__name__,
        "samples": recording.count,
        "teacher_test_accuracy": None,
        "agreement": None,
        "nonzero_fraction": fit.nonzero_fraction,
        "inf_norm_A": fit.model.inf_norm_A(),
        "state_fit": fit.state_fit,
        "seconds_states": recording.seconds,
        "seconds_ab": fit.ab.seconds,
        "seconds_equilibria": fit.seconds_equilibria,
        "seconds_cd": fit.cd.seconds,
        "kappa": options.kappa,
        "lambda_z": options.lambda_z if options.nonzeros is None else None,
        "lambda_y": options.lambda_y if options.nonzeros is None else None,
        "lambda_scale": options.lambda_scale,
        "rescaled": recording.is_rescaled,
        "regenerated": fit.equilibria is not None,
        "unconverged": 0 if fit.equilibria is None else fit.equilibria.unconverged,
        "ab": _stage(fit.ab),
        "cd": _stage(fit.cd),
    }
    if options.nonzeros is None and options.structure == "convolution":
        report["structure"] = options.structure
    if options.nonzeros is not None:
        report |= {
            "nonzeros": fit.nonzeros,
            "nonzeros_asked": options.nonzeros,
            "teacher_parameters": fit.teacher_parameters,
            "structure": options.structure,
            "allocation": options.allocation,
            "skip_connections": options.skip_connections,
            "refinement": None if fit.refinement is None else asdict(fit.refinement),
            "seconds_refinement": fit.seconds_refinement,
        }
    return report


def solver_name(solver: BaseSolver) -> str | None:
    """The name that a solver itself says it has, such as one that stands in for another."""
    name: str | None = getattr(type(solver), "name", None)
    return name


def _stage(stage: StageFit) -> dict[str, object]:
    certificate, bound = stage.solution.certificate, stage.solution.lower_bound
    return {
        "objective": certificate.objective,
        "relative_gap": certificate.relative_gap,
        "worst_row_gap": certificate.worst_row_gap,
        # The conditions of the problem without a limit say nothing of one with it.
        "kkt_residual": certificate.kkt_residual if bound is None else None,
        "iterations": stage.solution.iterations,
        "status": stage.solution.status,
        "lambda": stage.penalty,
        "worst_row_r2": float(stage.row_r2.min()),
        "poor_rows": int((stage.row_r2 < POOR_FIT).sum()),
        "nonzero_fraction": stage.solution.nonzero_fraction,
        "dead_rows": len(certificate.dead_rows),
        "budget_bound_rows": len(certificate.budget_bound_rows),
        "inexact_rows": len(certificate.inexact_rows),
        "ignored": list(stage.solution.ignored),
        "notes": list(stage.solution.notes),
        **({} if bound is None else {"lower_bound": float(bound.sum())}),
    }
