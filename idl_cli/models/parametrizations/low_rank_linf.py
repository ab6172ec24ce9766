"""‖L‖∞ ≤ √κ and ‖Rᵀ‖∞ ≤ √κ, so that ‖L Rᵀ‖∞ ≤ κ."""

from __future__ import annotations

from idl_cli.equilibrium.constraints import project_rows_l1, project_rows_l1_
from idl_cli.equilibrium.operators import LowRankOperator, Operator
from idl_cli.models.parametrizations.base import Parameters
from idl_cli.models.parametrizations.free import FreeLowRank


class LowRankLinf(FreeLowRank):
    """A product of ``L`` and ``R`` (n, r) within κ; arguments as of ``FreeLowRank``."""

    bounded = True

    def project_(self, parameters: Parameters) -> None:
        """Project the stored rows of L and of Rᵀ."""
        project_rows_l1_(parameters["L"], self._root)
        project_rows_l1_(parameters["R"].t(), self._root)

    def operator(self, parameters: Parameters) -> Operator:
        """Return the projected factors."""
        left = project_rows_l1(parameters["L"], self._root)
        return LowRankOperator(left, project_rows_l1(parameters["R"].t(), self._root).t())
