"""When the iterations of a solve are looked at, and which samples then go on without the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Look:
    """What a look at all samples at hand found.

    Attributes:
        residual: relative (m,); NaN where a sample is not finite.
        worst: the largest.
        values: of the iterates.
        running: which samples have not converged (m,); None where none is told from the others.
        count: how many, all of them where none is told from the others.
        lagging: whether samples pass by norm alone.
    """

    residual: Tensor
    worst: float
    values: int
    running: Tensor | None
    count: int
    lagging: bool


class Policy(ABC):
    """When the iterations of a solve are looked at, and which samples go on without the others.

    Attributes:
        check: the next iteration to be looked at, >= 1.
        confirms: whether a sample that only just passes by norm is looked at state by state only
            once it has passed twice: that costs a product, and the first time it mostly fails.
        together: whether samples are looked at state by state once all of them pass by norm, but
            for those that leave the others.
        lags: whether samples are known to pass by norm before they do state by state: the residual
            is raised to the figure of their states from the first such look on.
    """

    check: int
    confirms: bool = False
    together: bool = False
    lags: bool = False

    @abstractmethod
    def parts(self, worst: float, tol: float, values: int) -> bool:
        """Return whether samples that have not converged may leave the others now.

        Args:
            worst: largest residual; NaN where a sample is not finite.
            tol: largest of a converged sample.
            values: of the iterates at hand.
        """

    @abstractmethod
    def parted(self, running: int, samples: int, worst: float) -> bool:
        """Return whether so many of the samples at hand, all that run, go on alone."""

    def stays(self, finished: int) -> bool:
        """Return whether so many finished samples had better be iterated on than taken out."""
        return False

    def looked(self, done: int, look: Look, tol: float) -> None:  # noqa: B027
        """Choose the next iteration to be looked at, where the iterations do not."""

    def left_behind(self, done: int, running: int, samples: int) -> None:  # noqa: B027
        """Take note that so many of the samples at hand have gone on alone."""

    def ended(  # noqa: B027
        self, done: int, worst: float, tol: float, values: int, lagged: bool
    ) -> None:
        """Take note of the last look."""
