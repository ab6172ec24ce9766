"""What a fixed-point method does between two evaluations: propose the next iterate.

A method knows nothing of batches that shrink while it runs beyond ``restrict``; the ``engine``
stops, counts and writes down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class StepMethod(ABC):
    """The steps of one solve; an instance holds that solve's state.

    Attributes:
        check: the next iteration whose residual is looked at; a step that is told of it moves on.
        passive: whether a step that is told of no residual is f(x), and changes nothing here.
        steered: whether the steps depend on the residual.
        recovers: whether a sample that is not finite goes back to an iterate that was.
        confirms: whether a sample that only just passes by norm is looked at state by state only
            once it has passed twice: that costs a product, and the first time it mostly fails.
        spent: evaluations that the last step took beside f(x).
    """

    check: int = 1
    passive: bool = False
    steered: bool = False
    recovers: bool = False
    confirms: bool = False
    spent: int = 0

    @abstractmethod
    def step(
        self, function: Callable[..., Tensor], x: Tensor, image: Tensor, residual: Tensor | None
    ) -> Tensor:
        """Propose the next iterates.

        Args:
            function: f for the samples at hand.
            x: current iterates (m, n).
            image: f(x) (m, n); may be overwritten and returned itself.
            residual: relative residual of each x (m,); None at iterations that were not checked.
        """

    @abstractmethod
    def restrict(self, samples: Tensor) -> None:
        """Keep the state of the samples at these indices (k,) only."""
