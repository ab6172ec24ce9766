"""The weights of a sparse implicit model as values, outside of any module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """Matrices of x = φ(Ax + Bu + b), ŷ = Cx + Du + c, in compressed rows and float64.

    Attributes:
        A: (n, n).
        B: (n, p).
        C: (q, n).
        D: (q, p).
        state_bias: b (n,).
        output_bias: c (q,).
        sizes: states of each block, the last evaluated first.
        activations: name of each block's φ.
    """

    A: scipy.sparse.csr_matrix
    B: scipy.sparse.csr_matrix
    C: scipy.sparse.csr_matrix
    D: scipy.sparse.csr_matrix
    state_bias: np.ndarray
    output_bias: np.ndarray
    sizes: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def ends(self) -> np.ndarray:
        """The state after the last of each block (blocks,)."""
        return np.cumsum(self.sizes)

    @property
    def lipschitz(self) -> np.ndarray:
        """The Lipschitz constant of each state's φ (n,)."""
        constants = [ACTIVATION_FACTS[name].lipschitz for name in self.activations]
        return np.repeat(constants, self.sizes)

    @property
    def nonzeros(self) -> int:
        """Non-zeros of all weights, biases included."""
        vectors = (self.state_bias, self.output_bias)
        matrices = (self.A, self.B, self.C, self.D)
        return int(sum(each.nnz for each in matrices) + sum(map(np.count_nonzero, vectors)))

    @property
    def is_triangular(self) -> bool:
        """Whether every block depends on those after it alone."""
        return self._offender() is None

    def _offender(self) -> tuple[int, int, int] | None:
        """Number and begin of a block that depends on an earlier state, and that state."""
        begin = 0
        for number, end in enumerate(self.ends.tolist()):
            own = self.A.indices[self.A.indptr[begin] : self.A.indptr[end]]
            if len(own) and own.min() < end:
                return number, begin, int(own.min())
            begin = end
        return None

    def check_triangular(self) -> None:
        """Refuse an A in which a block depends on itself or on one before it.

        Raises:
            ArgumentError: the message names the block and the entry.
        """
        found = self._offender()
        if found is not None:
            number, begin, state = found
            raise ArgumentError(
                f"block {number} of the states, which begins at state {begin}, depends on state "
                f"{state}, evaluated no earlier: A must be strictly block upper triangular"
            )
