"""‖A‖∞ ≤ κ for a full matrix: every row in the l1 ball of radius κ."""

from __future__ import annotations

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_, within_rounding
from idl_cli.equilibrium.operators import DenseOperator, Operator, SparseOperator
from idl_cli.models.parametrizations.base import Parameters
from idl_cli.models.parametrizations.free import Free


class Linf(Free):
    """A matrix ``A`` (n, n) with ‖A‖∞ ≤ κ; arguments as of ``Free``."""

    bounded = True

    def project_(self, parameters: Parameters) -> None:
        """Project the stored rows."""
        project_rows_l1_(parameters["A"], self._kappa)

    def operator(self, parameters: Parameters) -> Operator:
        """Return A with its rows projected."""
        return DenseOperator(project_rows_l1(parameters["A"], self._kappa))

    def sparse_operator(self, parameters: Parameters, given: SparseOperator) -> SparseOperator:
        """Return the given non-zeros with their rows projected."""
        matrix = parameters["A"]
        if bool((given.row_norms() <= within_rounding(self._kappa, matrix.dtype)).all()):
            return given
        pattern = given.pattern
        return SparseOperator(pattern.values(project_rows_l1(matrix, self._kappa)), pattern)
