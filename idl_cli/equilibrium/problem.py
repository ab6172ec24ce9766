"""Everything of an equilibrium but its tensors: what A and φ are, and how they are solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.fixed_point import FixedPointSettings
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError

JACOBIAN_FREE_REASON: Final = (
    "backward.method=jacobian_free gives an approximate gradient, whose derivative would be none "
    "of the equilibrium's. Set backward.method to picard or anderson for exact derivatives."
)

AdjointMethodName = Literal["picard", "anderson", "jacobian_free"]


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


@dataclass(frozen=True)
class EquilibriumProblem:
    """Everything of an equilibrium but its tensors."""

    operator_type: type[Operator]
    activation: Activation
    forward: FixedPointSettings
    backward: AdjointSettings
    statistics: SolveStatistics | None

    def approximates(self, operator: Operator) -> bool:
        """Whether the backward is not the derivative; for a nilpotent A it always is."""
        return self.backward.method == "jacobian_free" and not operator.nilpotent
