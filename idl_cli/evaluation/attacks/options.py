"""Options of the attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.arguments import check_ranges
from idl_cli.config.fields import AT_LEAST_ONE

LossName = Literal["cross_entropy", "margin", "dlr"]
RuleName = Literal["constant", "cosine", "auto"]


@dataclass(frozen=True, kw_only=True)
class FgsmOptions:
    """One step to the corner of the ball that the gradient's signs point to.

    Args:
        loss: what is increased.
    """

    loss: LossName = "margin"


@dataclass(frozen=True, kw_only=True)
class PgdOptions:
    """Projected gradient steps of the gradient's signs.

    Args:
        steps: gradients a restart.
        restarts: starting points; the first is the sample itself, the others are drawn uniformly
            from the ball.
        loss: what is increased.
        rule: how long steps are: ``constant`` (2.5 half widths of the ball over ``steps``),
            ``cosine`` (from one half width down to nothing) or ``auto`` (momentum, and half the
            length where the loss stalls: Auto-PGD).
    """

    steps: Annotated[int, AT_LEAST_ONE] = 40
    restarts: Annotated[int, AT_LEAST_ONE] = 1
    loss: LossName = "margin"
    rule: RuleName = "auto"

    def __post_init__(self) -> None:
        check_ranges(type(self), self)


@dataclass(frozen=True, kw_only=True)
class MultiTargetedOptions:
    """PGD towards every other class in turn, on that class's margin.

    Args:
        steps: gradients a restart and class.
        restarts: starting points a class, as of PGD.
        rule: how long steps are, as of PGD.
    """

    steps: Annotated[int, AT_LEAST_ONE] = 20
    restarts: Annotated[int, AT_LEAST_ONE] = 1
    rule: RuleName = "auto"

    def __post_init__(self) -> None:
        check_ranges(type(self), self)
