"""The order in which states can be computed one after another, where no state feeds back on itself.

Sorting the pattern of A topologically, level after level (Kahn, Commun. ACM 5(11), 1962,
doi:10.1145/368996.369025): a level holds the states that depend on earlier levels alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SweepOrder:
    """Finds the order of a matrix, and remembers it as long as the pattern of non-zeros stays."""

    def __init__(self) -> None:
        self._pattern: Tensor | None = None
        self._order: Tensor | None = None

    @torch.no_grad()
    def of(self, matrix: Tensor) -> Tensor | None:
        """Return the order in which A is strictly upper triangular; None where there is none.

        Args:
            matrix: A (n, n).

        Returns:
            Indices (n,), such that A[order][:, order] is strictly upper triangular.
        """
        if bool(matrix.diagonal().any()):
            return None
        pattern = matrix != 0
        known = self._pattern
        if known is None or known.device != pattern.device or not torch.equal(known, pattern):
            self._pattern, self._order = pattern, _topological(pattern)
        return self._order


def _topological(pattern: Tensor) -> Tensor | None:
    waiting = pattern.sum(dim=1)  # for how many states; -1 once a state has its level
    levels = [(waiting == 0).nonzero().squeeze(1)]
    while len(levels[-1]):
        waiting[levels[-1]] = -1
        waiting -= pattern.index_select(1, levels[-1]).sum(dim=1)
        levels.append((waiting == 0).nonzero().squeeze(1))
    order = torch.cat(levels[::-1])
    return order if len(order) == len(pattern) else None
