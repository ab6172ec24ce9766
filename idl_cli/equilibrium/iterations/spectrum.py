"""What is known of the A of an equilibrium: its slow modes, and how large its powers grow."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor

from idl_cli.equilibrium.iterations.modes import Modes, dominant_modes
from idl_cli.equilibrium.operators.base import Operator, structure_of, written


class Spectrum:
    """What is known of the A of an equilibrium and its adjoint, found where it is asked for.

    It is found once, and anew for another A.
    """

    def __init__(self) -> None:
        self._key: list[Hashable] | None = None
        self._factors: list[Tensor] = []  # kept, so that no others come to lie where these do
        self._modes: list[Modes | None] = []
        self._growth: float | None = None

    def _look_at(self, operator: Operator) -> None:
        key = [structure_of(operator.form), *(written(factor) for factor in operator.factors)]
        if self._key != key:
            self._key, self._factors = key, [factor.detach() for factor in operator.factors]
            self._modes, self._growth = [], None

    def modes(self, operator: Operator) -> Modes | None:
        """Return A's slow modes; None where nothing sets them apart."""
        self._look_at(operator)
        if not self._modes:
            self._modes.append(dominant_modes(operator))
        return self._modes[0]

    def growth(self, operator: Operator) -> float:
        """Return an estimate of ρ(A)."""
        self._look_at(operator)
        if self._growth is None:
            self._growth = operator.growth()
        return self._growth
