"""How an equilibrium and its adjoint are solved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from idl_cli.errors import ArgumentError

MethodName = Literal["picard", "anderson"]
AdjointMethodName = Literal["picard", "anderson", "jacobian_free"]


@dataclass(frozen=True)
class FixedPointSettings:
    """How a fixed point is solved.

    Args:
        method: ``picard`` (x ← f(x)) or ``anderson`` (mixing over a window of past iterates).
        max_iter: most evaluations of f, >= 1.
        tol: largest relative residual of a converged sample, > 0; a few units of rounding where it
            is below them. The default 1e-5 is within reach of float32 and far below what training
            notices.
        window: past steps that Anderson mixes, >= 1.
        regularization: Tikhonov weight of Anderson's least squares, relative to its trace, >= 0.

    Raises:
        ArgumentError: a value is out of range.
    """

    method: MethodName = "picard"
    max_iter: int = 500
    tol: float = 1e-5
    window: int = 5
    regularization: float = 1e-8

    def __post_init__(self) -> None:
        allowed = get_args(MethodName)
        if self.method not in allowed:
            raise ArgumentError(
                f"method={self.method!r} is not known: choose one of {', '.join(allowed)}."
            )
        if self.max_iter < 1:
            raise ArgumentError(f"max_iter={self.max_iter} must be at least 1.")
        if not (self.tol > 0 and math.isfinite(self.tol)):
            raise ArgumentError(f"tol={self.tol} must be a positive number.")
        if self.window < 1:
            raise ArgumentError(f"window={self.window} must be at least 1.")
        if not self.regularization >= 0:
            raise ArgumentError(f"regularization={self.regularization} must not be negative.")


@dataclass(frozen=True)
class AdjointSettings:
    """How the gradient of an equilibrium is computed.

    Args:
        method: ``picard`` or ``anderson`` solve the adjoint equation to ``tol``: the exact
            gradient. ``jacobian_free`` takes v = d ⊙ g, as if the last iteration were the only
            one: cheaper and inexact (Fung et al., AAAI 2022, arXiv 2103.12803).
        max_iter: most evaluations, >= 1.
        tol: largest ‖d ⊙ (g + Aᵀv) − v‖∞ / ‖g‖∞ of a converged sample, > 0.
        window: past steps that Anderson mixes, >= 1.
        regularization: Tikhonov weight of Anderson's least squares, relative to its trace, >= 0.

    Raises:
        ArgumentError: a value is out of range.
    """

    method: AdjointMethodName = "picard"
    max_iter: int = 500
    tol: float = 1e-5
    window: int = 5
    regularization: float = 1e-8

    def __post_init__(self) -> None:
        allowed = get_args(AdjointMethodName)
        if self.method not in allowed:
            raise ArgumentError(
                f"method={self.method!r} is not known: choose one of {', '.join(allowed)}."
            )
        self.fixed_point_settings()

    def fixed_point_settings(self) -> FixedPointSettings:
        """Return the settings of the adjoint solve (checked)."""
        return FixedPointSettings(
            method="picard" if self.method == "jacobian_free" else self.method,
            max_iter=self.max_iter,
            tol=self.tol,
            window=self.window,
            regularization=self.regularization,
        )
