"""The residual block that deep equilibrium models began with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualCell(nn.Module):
    """N(relu(x + N(Uu + b + V N(relu(Wx))))), N a layer norm.

    The fully connected form of the block of Bai, Koltun and Kolter, Multiscale deep equilibrium
    models (NeurIPS 2020, arXiv 2006.08656). W and V are drawn small (normal, 0.01), so that plain
    steps converge at the start; nothing keeps it so.

    Args:
        input_dim: p of u (m, p).
        hidden_dim: n of x (m, n).
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.injection = nn.Linear(input_dim, hidden_dim)
        self.first = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.second = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(3))
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the next states (m, n)."""
        inner = self.second(self.norms[0](torch.relu(self.first(x))))
        result: Tensor = self.norms[2](torch.relu(x + self.norms[1](self.injection(u) + inner)))
        return result
