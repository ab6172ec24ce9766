"""A model whose states feed back through an A of parameters."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.operators import (
    DenseOperator,
    Operator,
    SparseOperator,
    SparseTriangularOperator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.equilibrium.sweep_order import SweepOrder
from idl_cli.equilibrium.transforms import transforming
from idl_cli.errors import WellPosednessWarning
from idl_cli.models.base import TrainableModel
from idl_cli.models.parametrizations.base import Parameters, Parametrization
from idl_cli.models.parametrizations.choose import parametrization_of
from idl_cli.models.parametrizations.free import Free
from idl_cli.models.sparse.few_nonzeros import FewNonzeros, compressed


class ParametrizedModel(TrainableModel):
    """A model with an A in a set: its parameters, their projection, the operator they make.

    The parameters are made empty; a subclass calls ``reset_feedback`` when it draws its own.

    Args:
        parametrization: the set, and the parameters that A is made of.
    """

    def __init__(self, parametrization: Parametrization) -> None:
        super().__init__()
        self._parametrization = parametrization
        for name, shape in parametrization.shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def _feedback_parameters(self) -> Parameters:
        return {name: getattr(self, name) for name in self._parametrization.shapes}

    def bounded_parameters(self) -> list[Tensor]:
        """Return the parameters of A where its set bounds their size."""
        given = self._feedback_parameters().values()
        return list(given) if self._parametrization.bounded else []

    @torch.no_grad()
    def reset_feedback(self) -> None:
        """Draw A anew; see ``Parametrization.reset``."""
        self._parametrization.reset(self._feedback_parameters())

    @torch.no_grad()
    def constrain_(self) -> None:
        """Project the parameters on the constraint set; call after each optimiser step."""
        self._parametrization.project_(self._feedback_parameters())

    def operator(self) -> Operator:
        """Return A as the operator in use: with its constraint, in the graph of the parameters.

        In training the stored parameters obey the constraint already (``constrain_``), and the
        projection is the identity; rows beyond the ball are projected, and gradients go through it.
        """
        return self._parametrization.operator(self._feedback_parameters())

    def inf_norm_A(self) -> float:
        """Return ‖A‖∞ of the matrix in use, summed in float64; of L Rᵀ without forming it."""
        return float(self.operator().row_norms().max())


class FeedbackModel(ParametrizedModel):
    """A model whose states feed back through A: parameter ``A``, or ``L`` and ``R`` (n, r).

    Attributes:
        few_nonzeros: makes sparse operators of the weights where that pays.

    Args:
        hidden_dim: number of states n.
        rank: r of A = L Rᵀ; None for a full matrix.
        kappa: κ of ‖A‖∞ ≤ κ, kept where ``well_posedness`` is ``linf``.
        well_posedness: how A is kept; ``none`` gives a WellPosednessWarning.
    """

    def __init__(
        self, hidden_dim: int, *, rank: int | None, kappa: float, well_posedness: WellPosedness
    ) -> None:
        super().__init__(
            parametrization_of(hidden_dim, rank=rank, kappa=kappa, well_posedness=well_posedness)
        )
        self.hidden_dim = hidden_dim
        self.rank = rank
        self.kappa = kappa
        self.well_posedness: WellPosedness = well_posedness
        self._sweep_order = SweepOrder()
        self.few_nonzeros = FewNonzeros()
        if well_posedness == "none":
            warnings.warn(
                "well_posedness=none: nothing keeps x = φ(Ax + Bu) well-posed. The equilibrium may "
                "not exist or not be unique, solves may not converge, and no certificate holds. "
                "Choose linf or triangular to keep these.",
                WellPosednessWarning,
                stacklevel=3,
            )

    def free_(self) -> None:
        """Keep A in no set from here on: what is stored is what is used, rounded as it may be."""
        self.well_posedness = "none"
        self._parametrization = parametrization_of(
            self.hidden_dim, rank=self.rank, kappa=self.kappa, well_posedness="none"
        )

    def ordered_operator(self) -> tuple[Operator, Tensor | None]:
        """Return A as it is solved fastest, and the order of the states in which it is so.

        A full A without feedback, as that of a feed-forward network is whatever constraint keeps
        it, becomes strictly upper triangular in the order returned (n,): exact in one sweep. Any
        other A is returned as it is, with None; by its non-zeros where it has few.
        """
        if transforming() or not isinstance(self._parametrization, Free):
            return self._ordered()
        if torch.is_grad_enabled() and self.A.requires_grad:
            given = self.few_nonzeros.operator("A", self.A)
            return self._ordered() if given is None else self._swept(given)
        return self.few_nonzeros.unchanged(f"A, {self.well_posedness}", self.A, self._fastest)

    def _fastest(self) -> tuple[Operator, Tensor | None]:
        given = compressed(self.A)
        return self._ordered() if given is None else self._swept(given)

    def _ordered(self) -> tuple[Operator, Tensor | None]:
        operator = self.operator()
        if not isinstance(operator, DenseOperator) or operator.nilpotent:
            return operator, None
        order = self._sweep_order.of(operator.matrix)
        if order is None:
            return operator, None
        return StrictlyUpperTriangularOperator(operator.matrix[order][:, order]), order

    def _swept(self, given: SparseOperator) -> tuple[Operator, Tensor | None]:
        """Return A in the order in which it is strictly upper triangular, where there is one."""
        assert isinstance(self._parametrization, Free), "the caller has looked"
        operator = self._parametrization.sparse_operator(self._feedback_parameters(), given)
        swept = None if operator.nilpotent else operator.pattern.swept
        if swept is None:
            return operator, None
        values = operator.factors[0].index_select(0, swept.moved)
        return SparseTriangularOperator(values, swept.pattern), operator.pattern.sweep_order

    def __getattr__(self, name: str) -> Any:
        # A low-rank model has no parameter A; whoever asks for the matrix gets the product.
        if name == "A" and self.__dict__.get("rank") is not None:
            return self.L @ self.R.t()
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "A" and self.__dict__.get("rank") is not None:
            raise AttributeError("A = L Rᵀ is read-only in a low-rank model: set L and R.")
        super().__setattr__(name, value)
