"""A layer of a recurrent network, run until it stands still."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TanhCell(nn.Module):
    """tanh(Wx + Uu + b), with W orthogonal times 1/2 at the start: a contraction.

    Args:
        input_dim: p of u (m, p).
        hidden_dim: n of x (m, n).
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.recurrent = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.injection = nn.Linear(input_dim, hidden_dim)
        nn.init.orthogonal_(self.recurrent.weight, gain=0.5)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the next states (m, n)."""
        return torch.tanh(self.recurrent(x) + self.injection(u))
