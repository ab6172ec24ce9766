"""The matrix A of an implicit model: its parameters, its constraint and its norm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.conditions import WellPosedness, well_posedness_problems
from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_, row_l1_norms
from idl_cli.equilibrium.operators import (
    DenseOperator,
    LowRankOperator,
    Operator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.equilibrium.sweep_order import SweepOrder
from idl_cli.errors import ArgumentError, WellPosednessWarning
from idl_cli.models.base import TrainableModel

# Rows of A = L Rᵀ formed at a time where its norm is asked for.
_NORM_BLOCK = 256


class FeedbackModel(TrainableModel):
    """A model whose states feed back through A: parameter ``A``, or ``L`` and ``R`` (n, r).

    The parameters are made empty; a subclass calls ``reset_feedback`` when it draws its own.

    Args:
        hidden_dim: number of states n.
        rank: r of A = L Rᵀ; None for a full matrix.
        kappa: κ of ‖A‖∞ ≤ κ, kept where ``well_posedness`` is ``linf``.
        well_posedness: how A is kept; ``none`` gives a WellPosednessWarning.
    """

    def __init__(
        self, hidden_dim: int, *, rank: int | None, kappa: float, well_posedness: WellPosedness
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.rank = rank
        self.kappa = kappa
        self.well_posedness: WellPosedness = well_posedness
        self._sweep_order = SweepOrder()
        if well_posedness == "none":
            warnings.warn(
                "well_posedness=none: nothing keeps x = φ(Ax + Bu) well-posed. The equilibrium may "
                "not exist or not be unique, solves may not converge, and no certificate holds. "
                "Choose linf or triangular to keep these.",
                WellPosednessWarning,
                stacklevel=3,
            )
        if rank is None:
            self.A = nn.Parameter(torch.empty(hidden_dim, hidden_dim))
        else:
            self.L = nn.Parameter(torch.empty(hidden_dim, rank))
            self.R = nn.Parameter(torch.empty(hidden_dim, rank))

    @torch.no_grad()
    def reset_feedback(self) -> None:
        """Draw A anew: uniform, the l1 norms of its rows (of L and of Rᵀ) half of what they may be.

        Strictly inside the constraint, where the gradient does not see it, and quick to solve, yet
        with the feedback felt from the first step.
        """
        n = self.hidden_dim
        if self.rank is None:
            self.A.uniform_(-self.kappa / n, self.kappa / n)
        else:
            root = math.sqrt(self.kappa)
            self.L.uniform_(-root / self.rank, root / self.rank)
            self.R.uniform_(-root / n, root / n)
        self.constrain_()

    @torch.no_grad()
    def constrain_(self) -> None:
        """Project the parameters on the constraint set; call after each optimiser step.

        Afterwards every stored row, summed in float64, obeys the bound.
        """
        if self.well_posedness == "triangular":
            self.A.triu_(1)
        elif self.well_posedness == "linf" and self.rank is None:
            project_rows_l1_(self.A, self.kappa)
        elif self.well_posedness == "linf":
            root = math.sqrt(self.kappa)
            project_rows_l1_(self.L, root)
            project_rows_l1_(self.R.t(), root)

    def operator(self) -> Operator:
        """Return A as the operator in use: with its constraint, in the graph of the parameters.

        In training the stored parameters obey the constraint already (``constrain_``), and the
        projection is the identity; rows beyond the ball are projected, and gradients go through it.
        """
        if self.well_posedness == "triangular":
            return StrictlyUpperTriangularOperator(self.A.triu(1))
        if self.rank is None:
            linf = self.well_posedness == "linf"
            return DenseOperator(project_rows_l1(self.A, self.kappa) if linf else self.A)
        if self.well_posedness == "none":
            return LowRankOperator(self.L, self.R)
        root = math.sqrt(self.kappa)
        return LowRankOperator(project_rows_l1(self.L, root), project_rows_l1(self.R.t(), root).t())

    def ordered_operator(self) -> tuple[Operator, Tensor | None]:
        """Return A as it is solved fastest, and the order of the states in which it is so.

        A full A without feedback, as that of a feed-forward network is whatever constraint keeps
        it, becomes strictly upper triangular in the order returned (n,): exact in one sweep. Any
        other A is returned as it is, with None.
        """
        operator = self.operator()
        if not isinstance(operator, DenseOperator) or operator.nilpotent:
            return operator, None
        matrix = operator.factors[0]
        order = self._sweep_order.of(matrix)
        if order is None:
            return operator, None
        return StrictlyUpperTriangularOperator(matrix[order][:, order]), order

    @torch.no_grad()
    def inf_norm_A(self) -> float:
        """Return ‖A‖∞ of the matrix in use, summed in float64; of L Rᵀ without forming it."""
        factors = self.operator().factors
        if self.rank is None:
            return float(row_l1_norms(factors[0]).max())
        left, right = (factor.double() for factor in factors)
        return max(
            float(row_l1_norms(rows @ right.t()).max()) for rows in torch.split(left, _NORM_BLOCK)
        )

    def __getattr__(self, name: str) -> Any:
        # A low-rank model has no parameter A; whoever asks for the matrix gets the product.
        if name == "A" and self.__dict__.get("rank") is not None:
            return self.L @ self.R.t()
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "A" and self.__dict__.get("rank") is not None:
            raise AttributeError("A = L Rᵀ is read-only in a low-rank model: set L and R.")
        super().__setattr__(name, value)


def check_architecture(
    sizes: Mapping[str, int],
    *,
    rank: int | None,
    kappa: float,
    activation: str,
    well_posedness: str,
) -> None:
    """Refuse sizes and choices that contradict each other, all at once.

    Args:
        sizes: each dimension by its argument's name, ``hidden_dim`` among them.
        rank: as in ``FeedbackModel``.
        kappa: as in ``FeedbackModel``.
        activation: name of φ.
        well_posedness: as in ``FeedbackModel``.

    Raises:
        ArgumentError: with a sentence for each problem.
    """
    problems = [f"{name}={size} must be at least 1." for name, size in sizes.items() if size < 1]
    problems += well_posedness_problems(
        hidden_dim=sizes["hidden_dim"],
        rank=rank,
        kappa=kappa,
        activation=activation,
        well_posedness=well_posedness,
    )
    if problems:
        raise ArgumentError(" ".join(problems))
