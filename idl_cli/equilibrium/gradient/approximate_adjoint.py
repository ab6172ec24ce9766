"""Adjoints that are cheap and inexact on purpose, and how far off they are.

All are steps of v ← d ⊙ (g + Aᵀv) from v = 0, a fixed number and not as many as it takes: one
(Jacobian-free, Fung et al., AAAI 2022, arXiv 2103.12803), k (the Neumann series cut off after k
terms), or k that go part of the way, which is the gradient of k damped iterations unrolled at the
solution (phantom gradient, Geng et al., NeurIPS 2021, arXiv 2111.05177).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.settings import APPROXIMATE, AdjointSettings
from idl_cli.equilibrium.statistics import SolveStatistics


def approximate_adjoint(
    first: Tensor, step: Callable[[Tensor], Tensor], settings: AdjointSettings
) -> Tensor:
    """Return v (m, n) after the steps that the method takes.

    Args:
        first: the step from zero, d ⊙ g (m, n).
        step: returns d ⊙ (g + Aᵀv) (m, n).
        settings: an approximate method, and its steps.
    """
    if settings.method == "jacobian_free":
        return first
    part = settings.damping if settings.method == "phantom" else 1.0
    v = part * first
    for _ in range(settings.steps - 1):
        v = torch.lerp(v, step(v), part)
    return v


def report_error(
    statistics: SolveStatistics | None,
    settings: AdjointSettings,
    approximate: Tensor,
    exact: Callable[[], Tensor],
) -> None:
    """Count how far an approximate adjoint is off, where that is asked for.

    Args:
        statistics: where it is counted.
        settings: whether it is asked for.
        approximate: v (m, n).
        exact: solves for v (m, n).
    """
    if settings.report_error and statistics is not None:
        with torch.no_grad():
            true = exact()
            statistics.record_gradient_error(
                (approximate - true).abs().amax(1)
                / true.abs().amax(1).clamp(min=torch.finfo(true.dtype).tiny)
            )


def second_derivative_reason(settings: AdjointSettings) -> str:
    """Return why there is no second derivative, and what to do."""
    assert settings.method in APPROXIMATE, "of an exact gradient there is one"
    return (
        f"backward.method={settings.method} gives an approximate gradient, whose derivative would "
        "be none of the equilibrium's. Set backward.method to picard or anderson for exact "
        "derivatives."
    )
