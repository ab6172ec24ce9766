"""No constraint: nothing keeps the equilibrium well-posed."""

from __future__ import annotations

import math

from idl_cli.equilibrium.operators import (
    DenseOperator,
    LowRankOperator,
    Operator,
    SparseOperator,
)
from idl_cli.models.parametrizations.base import Parameters, Parametrization


class Free(Parametrization):
    """Any matrix ``A`` (n, n).

    Args:
        size: number of states n.
        kappa: the l1 norms of the rows that are drawn are about half of it.
    """

    def __init__(self, size: int, kappa: float) -> None:
        self.shapes = {"A": (size, size)}
        self._kappa = kappa

    def reset(self, parameters: Parameters) -> None:
        """Draw A uniformly."""
        bound = self._kappa / len(parameters["A"])
        parameters["A"].uniform_(-bound, bound)
        self.project_(parameters)

    def project_(self, parameters: Parameters) -> None:
        """Do nothing."""

    def operator(self, parameters: Parameters) -> Operator:
        """Return A as it is."""
        return DenseOperator(parameters["A"])

    def sparse_operator(self, parameters: Parameters, given: SparseOperator) -> SparseOperator:
        """Return the same A, where its stored entries are zero outside the given non-zeros."""
        return given


class FreeLowRank(Parametrization):
    """Any product A = L Rᵀ of ``L`` and ``R`` (n, r).

    Args:
        size: number of states n.
        rank: r.
        kappa: the l1 norms of the rows of L and of Rᵀ that are drawn are about half of √κ.
    """

    def __init__(self, size: int, rank: int, kappa: float) -> None:
        self.shapes = {"L": (size, rank), "R": (size, rank)}
        self._root = math.sqrt(kappa)

    def reset(self, parameters: Parameters) -> None:
        """Draw L and R uniformly."""
        size, rank = self.shapes["L"]
        parameters["L"].uniform_(-self._root / rank, self._root / rank)
        parameters["R"].uniform_(-self._root / size, self._root / size)
        self.project_(parameters)

    def project_(self, parameters: Parameters) -> None:
        """Do nothing."""

    def operator(self, parameters: Parameters) -> Operator:
        """Return L Rᵀ by its factors."""
        return LowRankOperator(parameters["L"], parameters["R"])
