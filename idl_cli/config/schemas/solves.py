"""How equilibria and their gradients are solved: sections that every implicit model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import AT_LEAST_ONE, NON_NEGATIVE, POSITIVE

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
