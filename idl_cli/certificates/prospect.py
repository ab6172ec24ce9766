"""Whether a bound below zero may still rise above it: a guess, never a proof.

A bound loses f_i − f_j at the centre minus what it proves. A tighter one wins back a share of that,
and no very different share of one sample than of another: where more is lacking than was won back
of any of some pilots, it is not worth asking. What is left out in this way stays open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_ROOM: Final = 1.5  # times what was won back of the pilots


def pilots(samples: int, count: int) -> Tensor:
    """Which samples are asked to the end, evenly among all (samples,)."""
    chosen = torch.zeros(samples, dtype=torch.bool)
    chosen[torch.linspace(0, samples - 1, min(count, samples)).long()] = True
    return chosen


@dataclass(frozen=True)
class Prospect:
    """What may be won back.

    Attributes:
        share: of the loss of any class; 1 leaves nothing out.
    """

    share: float = 1.0

    @classmethod
    def of(cls, before: Tensor, after: Tensor, centre: Tensor) -> Prospect:
        """What pilots say.

        Args:
            before: margins (m, q), +inf of a class against itself; NaN proves nothing.
            after: the same by the tighter bound.
            centre: the same at the centres.
        """
        share = ((after - before) / (centre - before))[before < 0]
        share = share[share.isfinite()]
        return cls(min(1.0, _ROOM * float(share.max()))) if len(share) else cls()

    def worthwhile(self, margins: Tensor, centre: Tensor) -> Tensor:
        """Whether no class lacks more than may be won back (m,); so it is where nothing is known.

        Args:
            margins: as ``before``.
            centre: the same at the centres.
        """
        return ~((margins < 0) & (-margins > self.share * (centre - margins))).any(1)


ALL: Final = Prospect()
