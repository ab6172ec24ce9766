"""What every model that the trainers know has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

if TYPE_CHECKING:
    from idl_cli.equilibrium.statistics import SolveStatistics
    from idl_cli.json_value import JSONValue


class TrainableModel(nn.Module):
    """A module that knows its constraint, its solves and how to be made again.

    Attributes:
        takes_sequences: whether inputs are sequences (m, steps, features), ``input_dim`` being the
            features of a step; otherwise inputs are flattened and ``input_dim`` counts all of them.
    """

    takes_sequences: ClassVar[bool] = False

    def constrain_(self) -> None:
        """Project the parameters on the model's constraint set; call after each optimiser step.

        Does nothing for a model without constraints.
        """

    @property
    def solve_statistics(self) -> SolveStatistics | None:
        """Return the counts of the model's equilibrium solves, None where there are none."""
        return None

    def inf_norm_A(self) -> float | None:
        """Return ‖A‖∞ of the matrix the model uses, None where there is no A."""
        return None

    @abstractmethod
    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
