"""What a training leaves to read: the section ``sim`` of ``summary.json``."""

from __future__ import annotations

from idl_cli.sim.fit.fits import Fit, StageFit
from idl_cli.sim.fit.row_fit import POOR_FIT
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.states.recording import Recording


def report_of(fit: Fit, recording: Recording, solver: BaseSolver) -> dict[str, object]:
    """Plain values under the names of the run directory's contract.

    Args:
        fit: of the model.
        recording: of the states.
        solver: of both stages.
    """
    options = fit.options
    return {
        "solver": getattr(type(solver), "name", type(solver).__name__),
        "samples": recording.statistics.count,
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
        "lambda_z": options.lambda_z,
        "lambda_y": options.lambda_y,
        "lambda_scale": options.lambda_scale,
        "rescaled": bool((recording.scale != 1).any()),
        "regenerated": fit.equilibria is not None,
        "unconverged": 0 if fit.equilibria is None else fit.equilibria.unconverged,
        "ab": _stage(fit.ab),
        "cd": _stage(fit.cd),
    }


def _stage(stage: StageFit) -> dict[str, object]:
    certificate = stage.solution.certificate
    return {
        "objective": certificate.objective,
        "relative_gap": certificate.relative_gap,
        "worst_row_gap": certificate.worst_row_gap,
        "kkt_residual": certificate.kkt_residual,
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
    }
