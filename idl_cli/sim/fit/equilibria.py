"""The equilibria of the trained (A, B), on which C and D are fitted."""

from __future__ import annotations

import warnings

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning, NonFiniteError, WellPosednessWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.states.recording import Equilibria, Loader, Recording, record_equilibria


def usable_equilibria(
    model: ImplicitModel,
    recording: Recording,
    loader: Loader,
    options: SimOptions,
    callbacks: SimCallbacks,
    group: Group | None,
) -> Equilibria | None:
    """The second pass; None, with a warning, where the equilibria cannot be used.

    Args:
        model: of the trained (A, B).
        recording: of the first pass.
        loader: the one it was made from.
        options: how many samples.
        callbacks: told how far it is.
        group: the processes that share the samples; None for this one alone.
    """

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
