"""The equilibria of the trained (A, B), on which C and D are fitted."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.errors import ConvergenceWarning, NonFiniteError, WellPosednessWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.recording import OUTPUTS, DataPass, Recording, Statistics
from idl_cli.sim.statistics.shared_inputs import SharedInputStatistics


@dataclass(frozen=True)
class Equilibria:
    """What a pass over a model's equilibria found.

    Attributes:
        statistics: of the equilibria, with the target "Y".
        unconverged: samples whose equilibrium did not converge.
        residual_max: largest relative residual of any sample.
        seconds: wall-clock time of the pass.
    """

    statistics: Statistics
    unconverged: int
    residual_max: float
    seconds: float


def usable_equilibria(
    model: ImplicitModel, recording: Recording, data: DataPass
) -> Equilibria | None:
    """The second pass; None, with a warning, where the equilibria cannot be used.

    Args:
        model: of the trained (A, B).
        recording: of the first pass.
        data: the samples of the first pass.
    """
    norm = model.inf_norm_A()
    contractive = norm * model.activation.lipschitz < 1
    model.solve_statistics.warn = False  # said below, with what it means here
    try:
        found = record_equilibria(model, recording, data)
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


def record_equilibria(model: ImplicitModel, recording: Recording, data: DataPass) -> Equilibria:
    """Record the statistics of the model's own states against the teacher's outputs.

    Args:
        model: whose A, B and state bias are final; C and D are not used.
        recording: of the teacher.
        data: the samples of the first pass.

    Raises:
        NonFiniteError: an equilibrium diverged to infinity.
    """
    started = time.perf_counter()
    known = recording.raw
    statistics: Statistics | None = None
    if known.whole is not None:
        shared = SharedInputStatistics(known.whole, OUTPUTS)
        _pass(model, recording, data, shared.update)
        shared.sum_over(data.group)
        statistics = shared.result()
    if statistics is None:  # other samples than before, or split by columns: nothing is shared
        anew = known.empty([OUTPUTS])
        _pass(model, recording, data, lambda x, u, y: anew.update(x, u, {OUTPUTS: y}))
        anew.sum_over(data.group)
        statistics = anew
    found = data.group.gather_objects(model.solve_statistics.state_dict()["forward"])
    return Equilibria(
        statistics,
        unconverged=sum(int(each["unconverged"]) for each in found),
        residual_max=max(each["residual_max"] for each in found),
        seconds=time.perf_counter() - started,
    )


def _pass(
    model: ImplicitModel,
    recording: Recording,
    data: DataPass,
    update: Callable[[Tensor, Tensor, Tensor], None],
) -> None:
    """Hand equilibria, inputs and the teacher's outputs of this process's share to ``update``."""
    device, parameter = recording.raw.gram.device, model.B
    split = recording.raw.whole is None
    model.solve_statistics.reset()
    finite = torch.ones(1, dtype=torch.float64, device=device)
    with torch.no_grad():
        for inputs, batch in data.recorded(recording.recorder, in_step=split):
            x = batch.states[:0].to(parameter)
            if len(inputs):
                x = model.equilibrium(inputs.flatten(1).to(parameter.device, parameter.dtype))
                finite *= x.isfinite().all().to(finite)
            if not (split or bool(finite)):
                break
            # Where batches are put together all processes go on to the end of the pass.
            x = x.nan_to_num(0, 0, 0)
            update(x.to(device), batch.inputs.to(device), batch.outputs.to(device))
    data.group.all_reduce_sum_([finite])  # all processes give up together, or none
    if float(finite) < data.group.size:
        raise NonFiniteError("an equilibrium of the trained (A, B) diverged to infinity")
