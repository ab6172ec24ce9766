"""A strictly upper triangular: a feed-forward network, solved in one sweep."""

from __future__ import annotations

from idl_cli.equilibrium.operators import (
    Operator,
    SparseOperator,
    SparseTriangularOperator,
    StrictlyUpperTriangularOperator,
)
from idl_cli.models.parametrizations.base import Parameters
from idl_cli.models.parametrizations.free import Free


class Triangular(Free):
    """A matrix ``A`` (n, n) of which what stands above the diagonal counts; as ``Free``."""

    def project_(self, parameters: Parameters) -> None:
        """Clear the stored diagonal and what is below it."""
        parameters["A"].triu_(1)

    def operator(self, parameters: Parameters) -> Operator:
        """Return what stands above the diagonal."""
        return StrictlyUpperTriangularOperator(parameters["A"].triu(1))

    def sparse_operator(self, parameters: Parameters, given: SparseOperator) -> SparseOperator:
        """Return the given non-zeros above the diagonal."""
        above = given.pattern.above_diagonal
        values = given.factors[0].index_select(0, above.moved)
        return SparseTriangularOperator(values, above.pattern)
