"""A strictly upper triangular matrix."""

from __future__ import annotations

from torch import Tensor

from idl_cli.equilibrium import back_substitution
from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators.base import NilpotentOperator
from idl_cli.equilibrium.operators.dense import DenseOperator


class StrictlyUpperTriangularOperator(DenseOperator, NilpotentOperator):
    """A strictly upper triangular matrix A (n, n).

    The entries on and below the diagonal must be zero; the caller sees to it (``Tensor.triu(1)``),
    so that the gradient of the mask is part of the graph.
    """

    def swept_state(self, offset: Tensor, activation: Activation) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + b)."""
        return back_substitution.solve_state(self.matrix, offset, activation)

    def swept_adjoint(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return the v (m, n) with v = d ⊙ (g + Aᵀv)."""
        return back_substitution.solve_adjoint(self.matrix, slopes, gradient)

    def antitransposed(self) -> StrictlyUpperTriangularOperator:
        """Return A reflected at its other diagonal."""
        return StrictlyUpperTriangularOperator(self.matrix.t().flip(0, 1))
