"""What a fixed-point solve found, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor


class SolveStatus(Enum):
    """How a solve ended; the value is the sentence to show."""

    CONVERGED = "Every sample reached the tolerance."
    MAX_ITERATIONS = "Some samples had not reached the tolerance after max_iter iterations."
    NON_FINITE = "Some samples became NaN or infinite."


@dataclass(frozen=True)
class FixedPointResult:
    """What a solve found.

    Attributes:
        value: the fixed points x (m, n); for a sample that failed, its last iterate. Of an
            equilibrium or its adjoint it is f of the last iterate, which is closer.
        iterations: evaluations of f spent on each sample (m,), int64.
        residuals: relative residual of each last iterate (m,), NaN where it is not finite.
        converged: whether each residual is within the tolerance (m,).
        status: the worst of the samples' outcomes.
    """

    value: Tensor
    iterations: Tensor
    residuals: Tensor
    converged: Tensor
    status: SolveStatus
