"""Projected gradient in the Euclidean ball (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.margins import LOSSES
from idl_cli.evaluation.attacks.options import PgdOptions
from idl_cli.evaluation.attacks.search import Search, SearchingAttack


class EuclideanPgd(SearchingAttack):
    """Normalised gradient steps, projected on the ball, from several starting points.

    ``epsilon`` gives the half axes of the ball, one a feature where their units differ: what is
    kept is ‖(u − u⁰)/ε‖₂ ≤ 1. Steps fall from half the ball to nothing along half a cosine,
    whatever the ``rule``.
    """

    def __init__(self, options: PgdOptions | None = None) -> None:
        self._options = options or PgdOptions()

    def _try(
        self, search: Search, epsilon: Tensor | float, generator: torch.Generator | None
    ) -> None:
        centre = search.inputs.clone()
        axes = torch.as_tensor(epsilon, dtype=torch.float64).to(centre).expand_as(centre)
        steps, loss = self._options.steps, LOSSES[self._options.loss]
        lengths = 0.5 * (1 + torch.arange(steps).mul(torch.pi / steps).cos())
        for restart in range(self._options.restarts):
            x = inside(search.ball.uniform(generator), centre, axes) if restart else centre
            x = search.ball.project(x)
            for length in lengths.tolist():
                samples = search.standing
                if not len(samples):
                    return
                _, gradient = search.gradient(x[samples], samples, loss)
                scaled = gradient * axes[samples]
                step = axes[samples] * scaled / _norm(scaled)
                x = x.clone()
                x[samples] = x[samples] + length * step
                x = search.ball.project(inside(x, centre, axes))
            samples = search.standing
            search.consider(x[samples], samples)


def inside(x: Tensor, centre: Tensor, axes: Tensor) -> Tensor:
    """Return x, or the point of the ball on the way to it, a few roundings inward (b, ...)."""
    moved = torch.where(axes > 0, (x - centre) / axes, 0.0)
    room = (1 - 16 * torch.finfo(x.dtype).eps) / _norm(moved)
    return centre + moved * axes * room.clamp(max=1)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norms (b, 1, ...), never zero."""
    length = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    norm: Tensor = length.clamp(min=torch.finfo(vectors.dtype).tiny)
    return norm.view(-1, *[1] * (vectors.dim() - 1))
