"""A strictly upper triangular matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from idl_cli.equilibrium import back_substitution
from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators.base import NilpotentOperator, Operator, written
from idl_cli.equilibrium.operators.dense import DenseOperator


class _Blocks:
    """The independent blocks of a matrix, found once: to look for them is half of a small sweep."""

    def __init__(self) -> None:
        # The matrix is kept, so that no other comes to lie where it does.
        self._known: tuple[Tensor, tuple[int, int], list[tuple[int, int]]] | None = None

    def of(self, matrix: Tensor) -> list[tuple[int, int]]:
        """Return those of a strictly upper triangular matrix (n, n)."""
        if matrix.is_inference():  # torch does not count what is written to it
            return back_substitution.independent_blocks(matrix)
        key = written(matrix)
        if self._known is None or self._known[1] != key:
            blocks = back_substitution.independent_blocks(matrix)
            self._known = (matrix.detach(), key, blocks)
        return self._known[2]


class StrictlyUpperTriangularOperator(DenseOperator, NilpotentOperator):
    """A strictly upper triangular matrix A (n, n).

    The entries on and below the diagonal must be zero; the caller sees to it (``Tensor.triu(1)``),
    so that the gradient of the mask is part of the graph.

    Args:
        matrix: A.
        blocks: what is known of its blocks, shared by all operators of one ``form``.
    """

    def __init__(self, matrix: Tensor, blocks: _Blocks | None = None) -> None:
        super().__init__(matrix)
        self._blocks = blocks or _Blocks()

    @property
    def form(self) -> Callable[..., Operator]:
        """What makes an operator of this structure of other factors."""
        return partial(type(self), blocks=self._blocks)

    def swept_state(self, offset: Tensor, activation: Activation) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + b)."""
        blocks = self._blocks.of(self.matrix)
        return back_substitution.solve_state(self.matrix, offset, activation, blocks)

    def swept_adjoint(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return the v (m, n) with v = d ⊙ (g + Aᵀv)."""
        blocks = self._blocks.of(self.matrix)
        return back_substitution.solve_adjoint(self.matrix, slopes, gradient, blocks)

    def antitransposed(self) -> StrictlyUpperTriangularOperator:
        """Return A reflected at its other diagonal."""
        return StrictlyUpperTriangularOperator(self.matrix.t().flip(0, 1))
