"""Which method solves a fixed point: the options, and what is known of the map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.anderson import Anderson
from idl_cli.equilibrium.iterations.coarse import CoarseSteps, Linearised
from idl_cli.equilibrium.iterations.picard import Picard
from idl_cli.equilibrium.iterations.step_method import StepMethod
from idl_cli.equilibrium.settings import FixedPointSettings


def step_method(
    settings: FixedPointSettings, function: Callable[..., Tensor], start: Tensor, tol: float
) -> StepMethod:
    """Return the steps of one solve.

    Args:
        settings: the method asked for; ``auto`` is plain steps in half precision, in which torch
            solves no systems, and Anderson's for a function of which nothing is known.
        function: f.
        start: first iterates.
        tol: largest residual of a converged sample.
    """
    half = torch.finfo(start.dtype).bits < 32
    work = function.multiplications if isinstance(function, Linearised) else 0
    if settings.method == "picard" or (settings.method == "auto" and half):
        return Picard(start.shape[1], work)
    if settings.method == "auto" and isinstance(function, Linearised):
        return CoarseSteps(tol, Picard(start.shape[1], work))
    return Anderson(settings.window, settings.regularization)
