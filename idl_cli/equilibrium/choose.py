"""Which method solves a fixed point: the options, and what is known of the map."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.anderson import Anderson
from idl_cli.equilibrium.iterations.coarse import CoarseSteps
from idl_cli.equilibrium.iterations.linearised import Linearised
from idl_cli.equilibrium.iterations.picard import COSTLY_STATES, Picard, expected_iterations
from idl_cli.equilibrium.iterations.secants import Secants
from idl_cli.equilibrium.iterations.step_method import StepMethod
from idl_cli.equilibrium.settings import NO_WINDOW, FixedPointSettings
from idl_cli.errors import ArgumentError

# Multiplications a state of a product that takes as long as Anderson's method with its window. Slow
# modes are found by products with ten vectors, of which each takes as long as two to four with one.
_LARGE = 2000
# Steps at the rate of ρ(A) from which slow modes are looked for before any rate is measured: of
# relu's states half are at rest, and as few as a third of these steps may do.
_MANY = 100


def step_method(
    settings: FixedPointSettings,
    function: Callable[..., Tensor],
    start: Tensor,
    tol: float,
    secants: Secants | None = None,
) -> StepMethod:
    """Return the steps of one solve.

    Args:
        settings: the method asked for; ``auto`` is plain steps in half precision, in which torch
            solves no systems, and where they are damped, and Anderson's for a function of which
            nothing is known, and for one sample of a large A.
        function: f.
        start: first iterates.
        tol: largest residual of a converged sample.
        secants: where Anderson's method keeps its windows.

    Raises:
        ArgumentError: ``secants`` are asked for of another method.
    """
    half, damping = torch.finfo(start.dtype).bits < 32, settings.damping
    known = isinstance(function, Linearised)
    plain = settings.method == "auto" and (half or (known and damping < 1))
    if secants is not None and (plain or known or settings.method == "picard"):
        raise ArgumentError(NO_WINDOW)
    radius = None
    if settings.method != "anderson" and damping == 1:
        radius = _radius(function, start)
    if settings.method == "picard" or plain:
        return _picard(function, start, tol, damping, radius)
    if (
        settings.method == "auto"
        and isinstance(function, Linearised)
        and not _alone(function, start)
    ):
        first = _picard(function, start, tol, damping, radius)
        return CoarseSteps(tol, first, slow=radius is not None and _slow(radius, tol))
    return Anderson(settings.window, settings.regularization, damping, secants)


def _alone(function: Linearised, start: Tensor) -> bool:
    """Whether what A's slow modes are for is one sample, and to find them costs it too much."""
    samples, states = start.shape
    return samples == 1 and function.multiplications >= _LARGE * states


def _radius(function: Callable[..., Tensor], start: Tensor) -> float | None:
    """Return ρ(A), where there is an A and to estimate it costs less than a step."""
    if isinstance(function, Linearised) and start.shape[1] < COSTLY_STATES:
        return function.growth()
    return None


def _slow(radius: float, tol: float) -> bool:
    """Whether this ρ(A) tells that plain steps are many."""
    return radius >= 1 or (radius > 0 and math.log(tol) < _MANY * math.log(radius))


def _picard(
    function: Callable[..., Tensor], start: Tensor, tol: float, damping: float, radius: float | None
) -> Picard:
    states = start.shape[1]
    if not isinstance(function, Linearised):
        return Picard(states, damping=damping)
    expected = None if radius is None else expected_iterations(radius, tol)
    return Picard(states, function.multiplications, expected=expected, damping=damping)
