"""What a model asks of a set that its A is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from idl_cli.equilibrium.operators import Operator

Parameters = Mapping[str, Tensor]
"""The parameters of A by their names in the model."""


class Parametrization(ABC):
    """A set of matrices A, and the parameters in which a model holds one of them.

    It holds no tensors itself; the model's are handed to it.

    Attributes:
        shapes: of the parameters, by their names in the model.
        bounded: whether the set bounds the size of the parameters.
    """

    shapes: Mapping[str, tuple[int, ...]]
    bounded: ClassVar[bool] = False

    @abstractmethod
    def reset(self, parameters: Parameters) -> None:
        """Draw the parameters anew from torch's global generator, without a graph.

        Such that the l1 norms of A's rows are about half of what they may be: strictly inside the
        constraint, where the gradient does not see it, and quick to solve, yet with the feedback
        felt from the first step.
        """

    @abstractmethod
    def project_(self, parameters: Parameters) -> None:
        """Project the stored parameters on the set, without a graph.

        Afterwards every stored row, summed in float64, obeys the bound.
        """

    @abstractmethod
    def operator(self, parameters: Parameters) -> Operator:
        """Return A with its constraint, in the graph of the parameters.

        Of parameters in the set that is they themselves; others are projected, and gradients go
        through the projection.
        """
