"""Values of a network as affine functions of its inputs and of the states so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import scipy.sparse
import torch

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.sparse.weights import SparseWeights


@dataclass(frozen=True, eq=False)
class Expression:
    """matrix @ [u, states in the order they came] + constant, of one sample.

    Attributes:
        matrix: (entries, inputs and states) compressed rows, float64; states that came later are
            columns that it does not have yet.
        constant: (entries,) float64.
        shape: of the value without the axis of samples, row-major.
    """

    matrix: scipy.sparse.csr_matrix
    constant: np.ndarray
    shape: tuple[int, ...]

    def mapped(
        self,
        linear: scipy.sparse.csr_matrix,
        shape: Sequence[int],
        constant: np.ndarray | float = 0,
    ) -> Expression:
        """A linear map of the entries, and a constant added."""
        matrix = (linear @ self.matrix).tocsr()
        return Expression(matrix, linear @ self.constant + constant, tuple(shape))

    def scaled(self, factors: np.ndarray, shift: np.ndarray | float = 0.0) -> Expression:
        """Each entry times its factor and plus its shift, both of ``shape`` or broadcast to it."""
        factors = np.broadcast_to(np.asarray(factors, dtype=float), self.shape).ravel()
        shift = np.broadcast_to(np.asarray(shift, dtype=float), self.shape).ravel()
        matrix = scipy.sparse.diags_array(factors).tocsr() @ self.matrix
        return Expression(matrix.tocsr(), factors * self.constant + shift, self.shape)

    @property
    def negated(self) -> Expression:
        """−1 times the value."""
        return self.scaled(-np.ones(()))

    def gathered(self, entries: np.ndarray, fill: float = 0.0) -> Expression:
        """The entries at these places, ``fill`` where a place is −1; the shape of ``entries``."""
        places = entries.ravel()
        kept = np.flatnonzero(places >= 0)
        if len(kept) == len(places):
            matrix = self.matrix[places]
        else:
            ones = np.ones(len(kept))
            shape = (len(places), len(self.constant))
            matrix = (
                scipy.sparse.csr_matrix((ones, (kept, places[kept])), shape=shape) @ self.matrix
            )
        constant = np.full(len(places), float(fill))
        constant[kept] = self.constant[places[kept]]
        return Expression(matrix.tocsr(), constant, entries.shape)

    def reshaped(self, shape: Sequence[int]) -> Expression:
        """The same entries in another shape."""
        assert prod(shape) == len(self.constant)
        return replace(self, shape=tuple(shape))

    def broadcast(self, shape: Sequence[int]) -> Expression:
        """Repeated to a larger shape, as NumPy does."""
        if tuple(shape) == self.shape:
            return self
        places = np.arange(len(self.constant)).reshape(self.shape)
        return self.gathered(np.broadcast_to(places, tuple(shape)))

    def plus(self, other: Expression, factor: float = 1.0) -> Expression:
        """This and ``factor`` times the other, broadcast to each other."""
        shape = np.broadcast_shapes(self.shape, other.shape)
        left, right = self.broadcast(shape), other.broadcast(shape)
        width = max(left.matrix.shape[1], right.matrix.shape[1])
        matrix = widened(left.matrix, width) + factor * widened(right.matrix, width)
        return Expression(matrix.tocsr(), left.constant + factor * right.constant, shape)


def widened(matrix: scipy.sparse.csr_matrix, columns: int) -> scipy.sparse.csr_matrix:
    """The matrix with empty columns behind its own."""
    parts = (matrix.data, matrix.indices, matrix.indptr)
    return scipy.sparse.csr_matrix(parts, shape=(matrix.shape[0], columns))


def stacked(expressions: Sequence[Expression]) -> Expression:
    """All entries, one expression after the other, in one dimension."""
    width = max(each.matrix.shape[1] for each in expressions)
    matrix = scipy.sparse.vstack([widened(each.matrix, width) for each in expressions], "csr")
    constant = np.concatenate([each.constant for each in expressions])
    return Expression(matrix, constant, (len(constant),))


@dataclass(frozen=True, eq=False)
class _StateBlock:
    matrix: scipy.sparse.csr_matrix
    constant: np.ndarray
    activation: str


class States:
    """The blocks of states that a network has needed so far.

    Args:
        input_shape: of one sample.
        dtype: of the model to make, in which blocks are kept.
    """

    def __init__(self, input_shape: Sequence[int], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._stored = np.float32 if dtype == torch.float32 else np.float64
        self._shape = tuple(input_shape)
        self._blocks: list[_StateBlock] = []
        self._width = prod(self._shape)

    @property
    def input(self) -> Expression:
        """The input itself."""
        size = prod(self._shape)
        return Expression(scipy.sparse.eye_array(size, format="csr"), np.zeros(size), self._shape)

    def activated(self, value: Expression, activation: str) -> Expression:
        """New states φ(value), one an entry.

        Raises:
            UnsupportedModelError: φ is not non-expansive, or weights are not finite.
        """
        lipschitz = ACTIVATION_FACTS[activation].lipschitz
        if lipschitz > 1:
            raise UnsupportedModelError(
                f"{activation} has the Lipschitz constant {lipschitz:.4g}; the states of an "
                "implicit model need a non-expansive activation (at most 1), such as relu"
            )
        size = len(value.constant)
        matrix = value.matrix.astype(self._stored)
        matrix.eliminate_zeros()
        _refuse_nonfinite(matrix.data, value.constant)
        self._blocks.append(_StateBlock(matrix, value.constant, activation))
        start, self._width = self._width, self._width + size
        ones, rows = np.ones(size), np.arange(size + 1)
        columns = np.arange(start, start + size)
        selection = scipy.sparse.csr_matrix((ones, columns, rows), shape=(size, self._width))
        return Expression(selection, np.zeros(size), value.shape)

    def model(self, output: Expression) -> SparseImplicitModel:
        """The model that predicts ``output``, flattened.

        Raises:
            UnsupportedModelError: there are no states, or weights are not finite.
        """
        if not self._blocks:
            raise UnsupportedModelError(
                "the network has no activation, so it has no states: it is one affine map"
            )
        inputs = prod(self._shape)
        blocks = self._blocks[::-1]
        sizes = tuple(len(block.constant) for block in blocks)
        states = sum(sizes)
        # Where each state comes to stand: the last block first, the order in a block kept.
        positions = np.concatenate(
            [np.arange(end - size, end) for end, size in zip(np.cumsum(sizes), sizes, strict=True)][
                ::-1
            ]
        )
        _refuse_nonfinite(output.matrix.data, output.constant)
        of_states = [_divided(block.matrix, inputs, positions) for block in blocks]
        of_output = _divided(output.matrix.astype(self._stored), inputs, positions)
        weights = SparseWeights(
            A=scipy.sparse.vstack([widened(each[1], states) for each in of_states], "csr"),
            B=scipy.sparse.vstack([each[0] for each in of_states], "csr"),
            C=widened(of_output[1], states),
            D=of_output[0],
            state_bias=np.concatenate([block.constant for block in blocks]),
            output_bias=output.constant,
            sizes=sizes,
            activations=tuple(block.activation for block in blocks),
        )
        return SparseImplicitModel.from_weights(weights, self.dtype)


def _divided(
    matrix: scipy.sparse.csr_matrix, inputs: int, positions: np.ndarray
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """The columns of the inputs, and those of the states where these come to stand."""
    matrix.sort_indices()
    rest = matrix[:, inputs:]
    places = (rest.data, positions[rest.indices], rest.indptr)
    moved = scipy.sparse.csr_matrix(places, shape=(matrix.shape[0], len(positions)))
    moved.sort_indices()
    return matrix[:, :inputs].tocsr(), moved


def _refuse_nonfinite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(each).all() for each in arrays):
        raise UnsupportedModelError("the network's weights are not all finite (NaN or infinity)")
