"""‖A‖∞ ≤ κ for a full matrix: every row in the l1 ball of radius κ."""

from __future__ import annotations

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_
from idl_cli.equilibrium.operators import DenseOperator, Operator
from idl_cli.models.parametrizations.base import Parameters
from idl_cli.models.parametrizations.free import Free


class Linf(Free):
    """A matrix ``A`` (n, n) with ‖A‖∞ ≤ κ; arguments as of ``Free``."""

    def project_(self, parameters: Parameters) -> None:
        """Project the stored rows."""
        project_rows_l1_(parameters["A"], self._kappa)

    def operator(self, parameters: Parameters) -> Operator:
        """Return A with its rows projected."""
        return DenseOperator(project_rows_l1(parameters["A"], self._kappa))
