"""Statistics of new states on inputs whose own statistics are known already.

The second pass of a training sees the inputs of the first with other states. The block U Uᵀ of the
Gram matrix, which is most of the work where inputs outnumber states, and Y Uᵀ stay as they were.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.reduction import sum_over_group
from idl_cli.sim.statistics.symmetric import add_gram_, mirror_

_CHUNK = 1024  # samples converted to float64 at a time
_SAME = 1e-9  # relative difference of sums of squares: far above their rounding, below any change


class SharedInputStatistics:
    """Accumulates what involves the new states X: X Xᵀ, X Uᵀ and Y Xᵀ, in float64.

    Args:
        known: of the same inputs U and outputs, with other states.
        outputs: name of the target that the outputs are, in ``known`` and in the result.
    """

    def __init__(self, known: SufficientStatistics, outputs: str) -> None:
        self._known = known
        self._outputs = outputs
        n, gram = known.state_dim, known.gram
        self._states = gram.new_zeros(n, n)
        self._mixed = gram.new_zeros(n, known.input_dim)
        self._cross = gram.new_zeros(len(known.cross[outputs]), n)
        self._input_squares = gram.new_zeros(known.input_dim)
        self._output_squares = gram.new_zeros(len(known.cross[outputs]))
        self.count = 0

    @torch.no_grad()
    def update(self, states: Tensor, inputs: Tensor, outputs: Tensor) -> None:
        """Add a batch: X (b, n), U (b, p), Y (b, q), finite."""
        offsets, n = self._known.offsets, self._known.state_dim
        for start in range(0, len(states), _CHUNK):
            x, u, y = (
                t[start : start + _CHUNK].to(self._states) for t in (states, inputs, outputs)
            )
            if offsets is not None:
                s = offsets.take_out_(torch.cat([x, u], dim=1), u[:, offsets.constant - n])
                x, u = s[:, :n], s[:, n:]
                y = y - torch.outer(u[:, offsets.constant - n], offsets.targets[self._outputs])
            add_gram_(self._states, x)
            self._mixed.addmm_(x.T, u)
            self._cross.addmm_(y.T, x)
            self._input_squares.add_(u.square().sum(dim=0))
            self._output_squares.add_(y.square().sum(dim=0))
        self.count += len(states)

    def sum_over(self, group: Group) -> None:
        """Add up the shares that the processes of a group have seen: each then holds the whole."""
        count = self._states.new_tensor([float(self.count)])
        sums = [self._mixed, self._cross, self._input_squares, self._output_squares]
        sum_over_group(group, [count, *sums], symmetric=[self._states])
        self.count = round(float(count))

    def result(self) -> SufficientStatistics | None:
        """The statistics of the new states; None when the inputs were not those of ``known``.

        The sums of squares tell: a loader that draws other samples, or augments them anew, gives
        other sums; one that only shuffles them gives the same.
        """
        known, n = self._known, self._known.state_dim
        pairs = (
            (self._input_squares, known.gram.diagonal()[n:]),
            (self._output_squares, known.square[self._outputs]),
        )
        if self.count != known.count or not all(
            torch.allclose(mine, theirs, rtol=_SAME, atol=0) for mine, theirs in pairs
        ):
            return None
        result = SufficientStatistics(
            n, known.input_dim, {self._outputs: len(self._cross)}, device=known.gram.device
        )
        result.count = self.count
        result.offsets = known.offsets
        result.gram.copy_(known.gram)
        mirror_(self._states)
        result.gram[:n, :n] = self._states
        result.gram[:n, n:] = self._mixed
        result.gram[n:, :n] = self._mixed.T
        result.cross[self._outputs].copy_(known.cross[self._outputs])
        result.cross[self._outputs][:, :n] = self._cross
        result.square[self._outputs].copy_(known.square[self._outputs])
        return result
