"""The weights of a sparse model that are not zero, as one vector, and their optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST_STEP = 3e-3
"""Of Adam, where it is largest, in rows of few weights."""
_FEW = 100
"""With more weights a row the step falls: all that move at once add up in one sum."""
_RISE = 0.3
_MEMORY, _SQUARE_MEMORY, _EPS = 0.9, 0.999, 1e-8


@dataclass(eq=False)
class KeptWeights:
    """The weights that are not zero, as one vector: all else of a model stays as it is.

    Attributes:
        parameters: of the model.
        places: of each, the flat indices of its non-zeros.
    """

    parameters: Sequence[Tensor]
    places: Sequence[Tensor]

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> KeptWeights:
        """Those of the parameters, which must be contiguous."""
        return cls(parameters, [p.detach().flatten().nonzero()[:, 0] for p in parameters])

    def values(self) -> Tensor:
        """The vector."""
        return self.of_parameters([parameter.detach() for parameter in self.parameters])

    def of_parameters(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """The entries of such places in tensors of the parameters' shapes; zeros where None."""
        like = self.parameters[0].detach()
        pairs = zip(tensors, self.places, strict=True)
        return torch.cat(
            [
                like.new_zeros(len(i)) if t is None else t.reshape(-1).index_select(0, i)
                for t, i in pairs
            ]
        )

    def set(self, values: Tensor) -> None:
        """Give the parameters these entries."""
        parts = self._parts(values)
        for parameter, place, part in zip(self.parameters, self.places, parts, strict=True):
            parameter.detach().view(-1).scatter_(0, place, part)

    def keep(self, chosen: Tensor) -> None:
        """Set to zero, for good, what is not chosen (a mask over the vector)."""
        self.set(self.values().masked_fill(~chosen, 0.0))  # a product leaves negative zeros
        parts = self._parts(chosen)
        self.places = [place[part] for place, part in zip(self.places, parts, strict=True)]

    def _parts(self, vector: Tensor) -> Sequence[Tensor]:
        return torch.split(vector, [len(place) for place in self.places])


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) on one vector, its step rising and falling once.

    One-cycle (Smith and Topin, arXiv 1708.07120): cosines up to its largest at three tenths of the
    steps and down again. torch's own loads its compiler first, which takes longer than this.

    Args:
        steps: to be taken.
        weights_a_row: that are kept in the mean, by which the largest step goes.
    """

    def __init__(self, steps: int, weights_a_row: float) -> None:
        self._steps = steps
        self._largest = _LARGEST_STEP * min(1.0, _FEW / max(weights_a_row, 1.0))
        self._taken = 0
        self._mean: Tensor | float = 0.0
        self._square: Tensor | float = 0.0

    def step(self, values: Tensor, slope: Tensor) -> Tensor:
        """The values after a step."""
        rise = _RISE * self._steps
        way = (self._taken - rise) / (rise if self._taken < rise else self._steps - rise)
        rate = self._largest * 0.5 * (1 + math.cos(math.pi * way))
        self._taken += 1
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * slope
        self._square = _SQUARE_MEMORY * self._square + (1 - _SQUARE_MEMORY) * slope.square()
        mean = self._mean / (1 - _MEMORY**self._taken)
        square = self._square / (1 - _SQUARE_MEMORY**self._taken)
        return values - rate * mean / (square.sqrt() + _EPS)

    def costliest(self, values: Tensor, left: int) -> Tensor:
        """A mask of the ``left`` entries whose removal costs the loss most.

        By ½w²F with the mean squared slope in place of the Fisher information F: optimal brain
        damage (LeCun et al., 1989) as in Theis et al., arXiv 1801.05787.
        """
        costs = values.square() * self._square
        chosen = torch.zeros_like(values, dtype=torch.bool)
        return chosen.index_fill_(0, costs.topk(left).indices, True)

    def keep(self, chosen: Tensor) -> None:
        """Forget the slopes of the entries that are not chosen (a mask)."""
        assert isinstance(self._mean, Tensor)
        assert isinstance(self._square, Tensor)
        self._mean, self._square = self._mean[chosen], self._square[chosen]
