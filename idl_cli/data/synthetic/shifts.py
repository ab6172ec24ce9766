"""Test samples drawn ever farther from what a model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from idl_cli.data.split import Split


@dataclass(frozen=True)
class Shifts:
    """A family of test parts, one for every shift f > 0.

    Args:
        values: the shifts f to evaluate at.
        make: f to the test part of that shift, the same one every time.
        training: the f whose samples are distributed as the training samples are.
        meaning: what f is, for the axis of a plot.
    """

    values: tuple[float, ...]
    make: Callable[[float], Split]
    training: float
    meaning: str

    def distance(self, shift: float) -> float:
        """How far samples of shift f reach beyond those of the training, in its own extent.

        0 up to the training's f, 1 where they reach twice as far.
        """
        return max(shift / self.training - 1.0, 0.0)
