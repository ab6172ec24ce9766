"""How an equilibrium and its gradient are solved: options of every implicit model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal, TypeAlias, get_args

from idl_cli.config.arguments import check_ranges
from idl_cli.config.fields import AT_LEAST_ONE, FINITE_POSITIVE, NON_NEGATIVE, Range
from idl_cli.errors import ArgumentError

MethodName: TypeAlias = Literal["picard", "anderson", "auto"]
AdjointMethodName: TypeAlias = Literal[
    "picard", "anderson", "auto", "jacobian_free", "neumann", "phantom", "shine"
]
APPROXIMATE: Final = ("jacobian_free", "neumann", "phantom", "shine")

NO_WINDOW: Final = (
    "backward.method=shine reads the window of a forward solve by Anderson's method, in float32 or "
    "float64: set forward.method to anderson, or backward.method to phantom."
)


@dataclass(frozen=True)
class FixedPointSettings:
    """How the equilibrium is solved.

    Args:
        method: ``picard`` (x ← f(x)) or ``anderson`` (mixing over a window of past iterates).
        max_iter: most evaluations of f, >= 1.
        tol: largest relative residual of a converged sample, > 0; a few units of rounding where it
            is below them. The default 1e-5 is within reach of float32 and far below what training
            notices.
        window: past steps that Anderson mixes, >= 1.
        regularization: Tikhonov weight of Anderson's least squares, relative to its trace, >= 0.
        damping: how far a plain step, and Anderson's mixture of them, goes from x to f(x), in
            (0, 1]; below 1 for an f whose plain steps swing, as those of no contraction may. The
            coarse and other steps of ``auto`` for x = φ(Ax + b) are then not taken, and plain
            steps of the adjoint, which are not damped, swing as well: take ``auto`` there.

    Raises:
        ArgumentError: a value is out of range.
    """

    method: MethodName = "auto"
    max_iter: Annotated[int, AT_LEAST_ONE] = 500
    tol: Annotated[float, FINITE_POSITIVE] = 1e-5
    window: Annotated[int, AT_LEAST_ONE] = 5
    regularization: Annotated[float, NON_NEGATIVE] = 1e-8
    damping: Annotated[float, Range(0, 1, low_open=True)] = 1.0

    def __post_init__(self) -> None:
        _check_method(self.method, get_args(MethodName))
        check_ranges(FixedPointSettings, self)


@dataclass(frozen=True)
class AdjointSettings:
    """How the gradient of the equilibrium is solved.

    Args:
        method: ``picard`` or ``anderson`` solve the adjoint equation to ``tol``: the exact
            gradient. ``jacobian_free`` takes v = d ⊙ g, as if the last iteration were the only
            one, ``neumann`` cuts the Neumann series off after ``steps`` terms, ``phantom`` is the
            gradient of so many damped iterations: cheaper and inexact (``approximate_adjoint``).
            ``shine`` takes what a forward solve by Anderson's method has learnt of f′
            (``iterations.secants``), for a function of which nothing is known.
        max_iter: most evaluations, >= 1.
        tol: largest ‖d ⊙ (g + Aᵀv) − v‖∞ / ‖g‖∞ of a converged sample, > 0.
        window: past steps that Anderson mixes, >= 1.
        regularization: Tikhonov weight of Anderson's least squares, relative to its trace, >= 0.
        steps: of ``neumann`` and ``phantom``, >= 1; 5, as their authors take.
        damping: how far a step of ``phantom`` goes, in (0, 1].
        report_error: whether an inexact adjoint is compared with the solved one, at its price;
            ``gradient_error_max`` of the statistics is the largest ‖v − v*‖∞ / ‖v*‖∞.

    Raises:
        ArgumentError: a value is out of range.
    """

    method: AdjointMethodName = "auto"
    max_iter: Annotated[int, AT_LEAST_ONE] = FixedPointSettings.max_iter
    tol: Annotated[float, FINITE_POSITIVE] = FixedPointSettings.tol
    window: Annotated[int, AT_LEAST_ONE] = FixedPointSettings.window
    regularization: Annotated[float, NON_NEGATIVE] = FixedPointSettings.regularization
    steps: Annotated[int, AT_LEAST_ONE] = 5
    damping: Annotated[float, Range(0, 1, low_open=True)] = 0.5
    report_error: bool = False

    def __post_init__(self) -> None:
        _check_method(self.method, get_args(AdjointMethodName))
        check_ranges(AdjointSettings, self)

    @cached_property
    def fixed_point(self) -> FixedPointSettings:
        """Settings of the adjoint solve."""
        method: MethodName = "auto"
        if self.method == "picard" or self.method == "anderson":
            method = self.method
        return FixedPointSettings(
            method=method,
            max_iter=self.max_iter,
            tol=self.tol,
            window=self.window,
            regularization=self.regularization,
        )


def of_known_equation(settings: AdjointSettings) -> AdjointSettings:
    """Return settings of the adjoint of x = φ(Ax + b).

    Raises:
        ArgumentError: the method is one that only other equations have.
    """
    if settings.method == "shine":
        raise ArgumentError(
            "backward.method=shine reads the window of a forward solve by Anderson's method of a "
            "function of which nothing is known, as model=deq has one; x = φ(Ax + b) keeps none. "
            "Set backward.method to auto, jacobian_free, neumann or phantom."
        )
    return settings


def check_shine(forward: FixedPointSettings, backward: AdjointSettings) -> None:
    """Check that there is what ``shine`` reads.

    Raises:
        ArgumentError: the forward solve is not Anderson's.
    """
    if backward.method == "shine" and forward.method == "picard":
        raise ArgumentError(NO_WINDOW)


def _check_method(method: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed:
        raise ArgumentError(f"method={method!r} is not known: choose one of {', '.join(allowed)}.")
