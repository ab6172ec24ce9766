"""The directions in which an iteration with A is slow: its dominant invariant subspaces.

Right and left ones by subspace iteration from a fixed start, by products with A and Aᵀ alone, so
that they are the same whatever was solved before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from idl_cli.equilibrium.operators import Operator

# Directions iterated on, of which at most two fewer are used: those left show where the slow ones
# end.
_BLOCK = 10
# Sweeps, and products in each, after which the directions are made orthogonal. What is a tenth as
# slow as another is then a millionth of it; after one sweep a thousandth, which float32 tells.
_SWEEPS, _PRODUCTS = 2, 3
# A mode is slow where an iteration leaves at least so much of it,
_SLOW = 0.5
# and is told from the next where that is so many times faster. Without a gap (a tridiagonal A) the
# directions found are mixtures, with which a coarse step diverges.
_GAP = 1.4
# Largest ‖AP − PH‖/‖AP‖ of a subspace that counts as invariant, and the smallest singular value of
# QᵀP of two that match.
_INVARIANT = 0.1
_MATCHING = 0.2


@dataclass(frozen=True)
class Modes:
    """Directions P and Q (k, n) that span dominant right and left invariant subspaces of A.

    Attributes:
        right: P, orthonormal.
        left: Q, orthonormal.
        right_image: A P.
        left_image: Aᵀ Q.
    """

    right: Tensor
    left: Tensor
    right_image: Tensor
    left_image: Tensor

    def transposed(self) -> Modes:
        """Return those of Aᵀ."""
        return Modes(self.left, self.right, self.left_image, self.right_image)


@torch.no_grad()
def dominant_modes(operator: Operator) -> Modes | None:
    """Return the slow modes of A; None where there are none, or no gap sets them apart.

    Args:
        operator: A, float32 or float64.
    """
    like = operator.factors[0]
    size = operator.size
    width = min(_BLOCK, size)
    # As good as random, where a transform of torch.func lets nothing be drawn.
    start = torch.arange(width * size, dtype=torch.float64, device=like.device).square_().sin_()
    start[:size] = 1  # close to the one slow mode that weights of one sign have
    right = left = start.view(width, size).to(like.dtype)
    zeros = torch.zeros_like(right)
    for _ in range(_SWEEPS):
        for _ in range(_PRODUCTS):
            right, left = operator.apply(right, zeros), operator.apply_transpose(left, zeros)
        right, left = torch.linalg.qr(torch.stack((right, left)).mT).Q.mT.unbind()
    right_image = operator.apply(right, zeros)
    if not math.isfinite(float(right_image.sum())):
        return None
    projected = right @ right_image.t()
    sizes = torch.linalg.eigvals(projected).abs().sort(descending=True).values.tolist()
    count = _slow(sizes, size)
    if not count:
        return None
    modes = Modes(
        right[:count],
        left[:count],
        right_image[:count],
        operator.apply_transpose(left[:count], zeros[:count]),
    )
    matching = modes.left @ modes.right.t()
    smallest = matching.abs() if count == 1 else torch.linalg.svdvals(matching)[-1]
    pairs = (
        torch.stack((modes.right, modes.left)),
        torch.stack((modes.right_image, modes.left_image)),
    )
    if _error(*pairs) > _INVARIANT:
        return None
    return modes if float(smallest) >= _MATCHING else None


def _slow(sizes: list[float], states: int) -> int:
    """Return how many modes to take out, by the largest gap below a slow one; 0 for none."""
    if len(sizes) == states:
        sizes = [*sizes, 0.0]
    gaps = [
        slow / max(next_one, 1e-3) if slow >= _SLOW else 0.0
        for slow, next_one in pairwise(sizes[: _BLOCK - 1])
    ]
    largest = max(gaps)
    return gaps.index(largest) + 1 if largest >= _GAP else 0


def _error(subspaces: Tensor, images: Tensor) -> float:
    """Return ‖AP − PH‖/‖AP‖ of both (2, k, n), added up."""
    rest = images - images @ subspaces.mT @ subspaces
    sizes = (torch.linalg.vector_norm(each, dim=(1, 2)) for each in (rest, images))
    return float(torch.div(*sizes).sum())
