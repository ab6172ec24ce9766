"""Everything of an equilibrium but its tensors: what A and φ are, and how they are solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics

JACOBIAN_FREE_REASON: Final = (
    "backward.method=jacobian_free gives an approximate gradient, whose derivative would be none "
    "of the equilibrium's. Set backward.method to picard or anderson for exact derivatives."
)


@dataclass(frozen=True)
class EquilibriumProblem:
    """Everything of an equilibrium but its tensors."""

    operator_type: type[Operator]
    activation: Activation
    forward: FixedPointSettings
    backward: AdjointSettings
    statistics: SolveStatistics | None

    def approximates(self, operator: Operator) -> bool:
        """Whether the backward is not the derivative; for a nilpotent A it always is."""
        return self.backward.method == "jacobian_free" and not operator.nilpotent
