"""How long the steps of projected gradient are.

Steps follow the signs of the gradient and are measured in half widths of the ball, so that features
of different units, and samples whose ball is cut by the valid range, move alike.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import torch
from torch import Tensor

from idl_cli.evaluation.attacks.ball import Ball


class StepRule(Protocol):
    """The iteration of one restart."""

    def start(self, inputs: Tensor, ball: Ball, steps: int) -> None:
        """Begin at inputs (k, ...) with that many gradients to come."""
        ...

    def next(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Return the next point (k, ...) from the loss (k,) and its gradient at the present one."""
        ...


class _Scheduled(ABC):
    """Steps whose length depends on their number alone."""

    def start(self, inputs: Tensor, ball: Ball, steps: int) -> None:
        self._x, self._ball, self._steps, self._made = inputs, ball, steps, 0

    def next(self, loss: Tensor, gradient: Tensor) -> Tensor:
        length = self._length(self._made / self._steps)
        self._made += 1
        self._x = self._ball.project(self._x + length * self._ball.half_width * gradient.sign())
        return self._x

    @abstractmethod
    def _length(self, progress: float) -> float:
        """In half widths, after this share of the steps."""


class Constant(_Scheduled):
    """2.5/steps of a half width each: the whole ball is within reach from every point of it.

    (Madry et al., ICLR 2018, arXiv 1706.06083.)
    """

    def _length(self, progress: float) -> float:
        return 2.5 / self._steps


class Cosine(_Scheduled):
    """From two half widths, the other side of the ball, down to nothing along half a cosine."""

    def _length(self, progress: float) -> float:
        return 1 + math.cos(math.pi * progress)


class Auto:
    """Auto-PGD: momentum, and half the length from the best point so far where the loss stalls.

    (Croce and Hein, ICML 2020, arXiv 2003.01690, algorithm 1.) Every sample has a length of its
    own, judged after shares 0, .22, .41, … of the steps: it is halved if the loss grew in fewer
    than three quarters of the steps since, or if neither the length nor the best loss changed.
    """

    def start(self, inputs: Tensor, ball: Ball, steps: int) -> None:
        """Begin at inputs (k, ...)."""
        self._x = self._before = self._best = inputs
        self._best_gradient = torch.zeros_like(inputs)
        self._ball = ball
        self._made = self._since = 0
        self._checks = _checkpoints(steps)
        rows = (len(inputs), *[1] * (inputs.dim() - 1))
        self._length = torch.full(rows, 2.0, dtype=inputs.dtype, device=inputs.device)
        self._best_loss = torch.full_like(self._length.flatten(), -torch.inf)
        self._last_loss = self._checked_loss = self._best_loss
        self._grown = torch.zeros_like(self._best_loss)
        self._halved = torch.ones_like(self._best_loss, dtype=torch.bool)

    def next(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Return the next point (k, ...)."""
        self._grown = self._grown + (loss > self._last_loss)
        self._last_loss = loss
        better = loss > self._best_loss
        self._best_loss = torch.where(better, loss, self._best_loss)
        wide = better.view(self._length.shape)
        self._best = torch.where(wide, self._x, self._best)
        self._best_gradient = torch.where(wide, gradient, self._best_gradient)
        if self._made in self._checks:
            gradient = self._check(gradient)
        step = self._length * self._ball.half_width * gradient.sign()
        moved = self._ball.project(self._x + step)
        if self._made:
            moved = self._x + 0.75 * (moved - self._x) + 0.25 * (self._x - self._before)
            moved = self._ball.project(moved)
        self._before, self._x = self._x, moved
        self._made += 1
        self._since += 1
        return moved

    def _check(self, gradient: Tensor) -> Tensor:
        """Halve lengths where that is due, and go on from the best points there."""
        stalls = self._grown < 0.75 * self._since
        stalls |= ~self._halved & (self._checked_loss >= self._best_loss)
        wide = stalls.view(self._length.shape)
        self._length = torch.where(wide, self._length / 2, self._length)
        self._x = torch.where(wide, self._best, self._x)
        self._before = torch.where(wide, self._best, self._before)
        self._halved, self._checked_loss = stalls, self._best_loss
        self._grown, self._since = torch.zeros_like(self._grown), 0
        return torch.where(wide, self._best_gradient, gradient)


def _checkpoints(steps: int) -> frozenset[int]:
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return frozenset(math.ceil(share * steps) for share in shares[1:])


RULES: Final[Mapping[str, type[StepRule]]] = MappingProxyType(
    {"constant": Constant, "cosine": Cosine, "auto": Auto}
)
