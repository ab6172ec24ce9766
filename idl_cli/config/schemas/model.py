"""Models to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import AT_LEAST_ONE, COMMAND_ONLY, NON_NEGATIVE, POSITIVE, Range
from idl_cli.equilibrium.conditions import (
    ActivationName,
    WellPosedness,
    well_posedness_problems,
)

Count: TypeAlias = Annotated[int, AT_LEAST_ONE]
Tolerance: TypeAlias = Annotated[float, POSITIVE]


@dataclass(frozen=True)
class Forward:
    """How the equilibrium is solved."""

    method: Literal["picard", "anderson"] = "picard"
    max_iter: Count = 500
    tol: Tolerance = 1e-5
    window: Count = 5
    regularization: Annotated[float, NON_NEGATIVE] = 1e-8


@dataclass(frozen=True)
class Backward:
    """How the gradient of the equilibrium is solved."""

    method: Literal["picard", "anderson", "jacobian_free"] = "picard"
    max_iter: Count = 500
    tol: Tolerance = 1e-5
    window: Count = 5
    regularization: Annotated[float, NON_NEGATIVE] = 1e-8


@dataclass(frozen=True)
class Implicit:
    """Implicit model: x = φ(Ax + Bu + b), prediction Cx + Du + c."""

    name: Literal["implicit"] = "implicit"
    hidden_dim: Count = 100
    rank: Count | None = None
    kappa: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 0.95
    bias: bool = True
    no_D: bool = False
    activation: ActivationName = "relu"
    well_posedness: WellPosedness = "linf"
    forward: Forward = Forward()
    backward: Backward = Backward()
    init_run: str | None = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> list[str]:
        """Rank against size and shape, and κ against the activation's Lipschitz constant."""
        found = well_posedness_problems(
            hidden_dim=self.hidden_dim,
            rank=self.rank,
            kappa=self.kappa,
            activation=self.activation,
            well_posedness=self.well_posedness,
        )
        return [f"model.{sentence}" for sentence in found]
