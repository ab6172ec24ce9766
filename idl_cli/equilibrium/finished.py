"""The results of samples that are finished while others of their batch go on.

A finished sample is taken out of the batch, which costs a dozen small operations, or stays in it
and is iterated on in vain where these cost more than the products: its result stands still.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Finished:
    """Results of all samples, as far as they are known, and which samples are at hand.

    Attributes:
        rows: indices of the samples at hand (k,), None for all of them.
        live: which of the samples at hand are running (k,), None for all of them; the others are
            iterated on in vain.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.live: Tensor | None = None
        self._known: tuple[Tensor, Tensor, int | Tensor] | None = None

    def write(self, value: Tensor, residual: Tensor, iteration: int) -> None:
        """Write the samples at hand that were running; those that go on are written again.

        Args:
            value: results (k, n).
            residual: of each (k,).
            iteration: at which they are looked at.
        """
        if self._known is None:
            self._known = (value, residual, iteration)
            return
        values, residuals, iterations = self._known
        if isinstance(iterations, int):
            iterations = torch.full_like(residuals, iterations, dtype=torch.int64)
            self._known = (values, residuals, iterations)
        if self.rows is not None:
            values.index_copy_(0, self.rows, value)
            residuals.index_copy_(0, self.rows, residual)
            iterations.index_fill_(0, self.rows, iteration)
        else:
            assert self.live is not None, "written before, and some go on"
            self._known = (
                torch.where(self.live[:, None], value, values),
                torch.where(self.live, residual, residuals),
                torch.where(self.live, iteration, iterations),
            )

    def leave(self, running: Tensor) -> None:
        """Go on with all samples at hand, of which these are running (k,)."""
        assert self.rows is None, "once samples are taken out, all that finish are"
        self.live = running

    def take_out(self, running: Tensor) -> Tensor:
        """Go on with the samples that are running (k,) alone, and return their indices here."""
        kept = running.nonzero().squeeze(1)
        self.rows = kept if self.rows is None else self.rows.index_select(0, kept)
        self.live = None
        return kept

    def results(self) -> tuple[Tensor, Tensor, int | Tensor]:
        """Return the values (m, n), residuals (m,) and iterations, one or (m,), of all samples."""
        assert self._known is not None, "written at the last look, if not before"
        return self._known
