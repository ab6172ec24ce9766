"""What a fixed-point solve found, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
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
        residuals: relative residual of each last iterate (m,), NaN where it is not finite.
        spent: evaluations of f: one number for all samples, or one each (m,), int64.
        tol: largest residual of a converged sample.
        status: the worst of the samples' outcomes.
    """

    value: Tensor
    residuals: Tensor
    spent: int | Tensor
    tol: float
    status: SolveStatus

    @property
    def iterations(self) -> Tensor:
        """Evaluations of f spent on each sample (m,), int64."""
        if isinstance(self.spent, Tensor):
            return self.spent
        return torch.full_like(self.residuals, self.spent, dtype=torch.int64)

    @property
    def converged(self) -> Tensor:
        """Whether each residual is within the tolerance (m,)."""
        return self.residuals <= self.tol
