"""A map with a derivative of which the methods know: D A, one A for all samples."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from idl_cli.equilibrium.iterations.modes import Modes


class Linearised(ABC):
    """A map f with derivative D A, A shared by all samples and D = diag(d) each sample's own.

    Attributes:
        linear: whether d does not depend on the state.
    """

    linear: bool

    @abstractmethod
    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return f(x) (m, n); ``out`` may be used to hold it."""

    @abstractmethod
    def slopes(self, x: Tensor, image: Tensor) -> Tensor:
        """Return d (m, n) where f maps x (m, n) to ``image``."""

    @abstractmethod
    def tangent(self, v: Tensor, slopes: Tensor) -> Tensor:
        """Return D A v (m, n) for v (m, n) and the d (m, n) of each sample."""

    @property
    @abstractmethod
    def multiplications(self) -> int:
        """How many f takes for one sample, but for what it does state by state."""

    @abstractmethod
    def growth(self) -> float:
        """Return an estimate of ρ(A)."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """Return A (n, n)."""

    @abstractmethod
    def modes(self) -> Modes | None:
        """Return A's slow modes; None where nothing sets them apart."""
