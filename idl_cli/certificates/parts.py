"""The parts that branch and bound has cut a sample's states into, and has not decided."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from idl_cli.certificates.ascent import Start
from idl_cli.certificates.state_box import StateBox


@dataclass(frozen=True)
class Parts:
    """Boxes of pre-activations, with the multipliers that bound a margin there.

    Attributes:
        question: whose part it is (k,).
        pre_low: z̲ (k, n).
        pre_high: z̄ (k, n).
        split: which states were cut (k, n), bool.
        slopes: of the multipliers (k, n), float32.
        shifts: of the multipliers (k, n), float32.
        gradient: ν of the multipliers (k, n), float32.
        bound: a lower bound of the margin there (k,).
        state: which to cut next (k,); −1 where nothing is left to cut.
        cut: where (k,).
    """

    question: Tensor
    pre_low: Tensor
    pre_high: Tensor
    split: Tensor
    slopes: Tensor
    shifts: Tensor
    gradient: Tensor
    bound: Tensor
    state: Tensor
    cut: Tensor

    @classmethod
    def of(
        cls, question: Tensor, box: StateBox, split: Tensor, last: Start, bound: Tensor
    ) -> Parts:
        """Parts (k,) with the multipliers (k, 1, n) that an ascent came to, and no cut yet."""
        return cls(
            question,
            box.pre_low,
            box.pre_high,
            split,
            last.slopes[:, 0],
            last.shifts[:, 0],
            last.gradient[:, 0],
            bound,
            state=torch.full_like(question, -1),
            cut=bound.clone(),
        )

    @classmethod
    def none(cls, states: int) -> Parts:
        """No parts."""
        indices, numbers = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        rows = numbers.view(0, states)
        box, multipliers = (rows, rows, rows > 0), (rows.float(),) * 3
        return cls(indices, *box, *multipliers, numbers, indices, numbers)

    def __len__(self) -> int:
        return len(self.question)

    @property
    def start(self) -> Start:
        """The multipliers, of one form a part (k, 1, n)."""
        return Start(self.slopes[:, None], self.shifts[:, None], self.gradient[:, None])

    @property
    def rows(self) -> Tensor:
        """0 to k − 1."""
        return torch.arange(len(self))

    def select(self, parts: Tensor) -> Parts:
        """Some of them: indices or a mask (k,)."""
        return Parts(*(getattr(self, each.name)[parts] for each in fields(self)))

    def joined(self, others: Parts) -> Parts:
        """These and others."""
        pairs = ((getattr(self, each.name), getattr(others, each.name)) for each in fields(self))
        return Parts(*(torch.cat(pair) for pair in pairs))

    def halves(self, state: Tensor, cut: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """z̲ and z̄ below the cut of a state (k,), and above it: each (k, n)."""
        low, high = self.pre_low.clone(), self.pre_high.clone()
        low[self.rows, state] = high[self.rows, state] = cut
        return (self.pre_low, high), (low, self.pre_high)
