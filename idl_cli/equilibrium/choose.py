"""Which method solves a fixed point: the options, and what is known of the map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.anderson import Anderson
from idl_cli.equilibrium.iterations.coarse import CoarseSteps
from idl_cli.equilibrium.iterations.linearised import Linearised
from idl_cli.equilibrium.iterations.picard import COSTLY_STATES, Picard, expected_iterations
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
    if settings.method == "picard" or (settings.method == "auto" and half):
        return _picard(function, start, tol)
    if settings.method == "auto" and isinstance(function, Linearised):
        return CoarseSteps(tol, _picard(function, start, tol))
    return Anderson(settings.window, settings.regularization)


def _picard(function: Callable[..., Tensor], start: Tensor, tol: float) -> Picard:
    states = start.shape[1]
    if not isinstance(function, Linearised):
        return Picard(states)
    expected = None
    if states < COSTLY_STATES:
        expected = expected_iterations(function.gain(), tol)
    return Picard(states, function.multiplications, expected=expected)
