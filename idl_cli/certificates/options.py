"""Options of certification, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    FINITE_NON_NEGATIVE,
    FINITE_POSITIVE,
    NON_NEGATIVE,
)

MethodName = Literal["auto", "norm", "sensitivity", "interval", "relaxation", "dual", "complete"]
NormName = Literal["linf", "l2"]


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """What is certified, and how.

    Attributes:
        epsilon: radii ε, in the data's own unit (pixels in [0, 1]).
        norm: in which ε is measured.
        method: the bound; auto takes, sample by sample, the cheapest that decides, and complete
            branches where none does.
        branches: boxes of states that complete bounds of a sample at most: enough for most samples
            of a model of a hundred states, at about 4 ms each.
        branch_seconds: processor time that complete gives a sample at most; None for no limit, so
            that a verdict depends on nothing but the model.
        samples: at most so many test samples, the first ones; None for all.
        radius_steps: bisections of the interval in which a sample's certified radius lies; 0 leaves
            the radii out.
    """

    epsilon: tuple[Annotated[float, FINITE_NON_NEGATIVE], ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    norm: NormName = "linf"
    method: MethodName = "auto"
    branches: Annotated[int, AT_LEAST_ONE] = 1000
    branch_seconds: Annotated[float, FINITE_POSITIVE] | None = None
    samples: Annotated[int, AT_LEAST_ONE] | None = 1000
    radius_steps: Annotated[int, NON_NEGATIVE] = 5
