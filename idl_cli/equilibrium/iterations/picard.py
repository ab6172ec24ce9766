"""Plain steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.step_method import StepMethod

# A product of one sample with A of 1,000 states takes as long as a check.
COSTLY_STATES = 1000
# Multiplications a state of a product that takes ten times as long as a check by norm.
_COSTLY_SHARE = 200
_FIRST, _FIRST_OF_COSTLY = 7, 4
# What is expected later than this is too far off to wait for.
_LATEST = 24
# Of 104 solves forward and backward, by 26 matrices as they are drawn and as 20 to 1,200 steps of
# training left them, at tolerances of 1e-3 and 1e-5, the slowest sample of 64 took -2 to 10 more
# iterations than expected, 0.5 in the mean; nine samples in ten had ended by then in 89 % of them.
_AFTER_EXPECTED = 2
# Of so few states a step takes a twentieth of a look: one too many is cheaper than one too few.
_TINY_STATES = 64
# Fewer states: steps between checks at least, and one in how many of those that are done.
_SMALL_STATES, _APART_OF_SMALL, _APART = 200, (5, 3), (3, 4)


class Picard(StepMethod):
    """x ← f(x), or part of the way: contracts at the rate of f, and costs one evaluation a step.

    For a small model a check, and setting finished samples aside, cost more than a step, of 64
    samples and 100 states as much as eight. So the first is where all is expected to be over, as
    far as A tells, the second two iterations later, and the others are spread out. Where nothing is
    expected they are on iterations 7, 12, 17, 22, 29, ...; from 200 states on a step costs as much
    as a check or two, and they are 7, 10, 13, 16, 20, 25, ... At most a quarter of a long solve is
    spent in vain, and what is spent is counted. With so many states that a step costs more than a
    check the first is on iteration 4; with a product that costs as much as ten checks by norm, all
    that follow are checked.

    Args:
        states: n.
        multiplications: those of a step, of one sample; 0 where they are not known.
        expected: iterations after which the solve may be over.
        damping: how far a step goes, in (0, 1].
    """

    def __init__(
        self,
        states: int,
        multiplications: int = 0,
        *,
        expected: int | None = None,
        damping: float = 1.0,
    ) -> None:
        self.passive = damping == 1
        self._damping = damping
        self.confirms = multiplications >= max(COSTLY_STATES**2, _COSTLY_SHARE * states)
        self._expected = expected is not None and expected <= _LATEST
        self.check = _FIRST
        if expected is not None and self._expected:
            self.check = max(2, expected + (states < _TINY_STATES))
        if self.confirms or states >= COSTLY_STATES:
            self.check = _FIRST_OF_COSTLY
        self._apart = _APART_OF_SMALL if states < _SMALL_STATES else _APART

    def step(
        self, function: Callable[..., Tensor], x: Tensor, image: Tensor, residual: Tensor | None
    ) -> Tensor:
        """Return f(x), or what lies on the way to it."""
        if not self.passive:
            image = torch.lerp(x, image, self._damping)
        if residual is None:
            return image
        if self.confirms:
            self.check += max(1, self.check // 8)
        elif self._expected or self.check < _FIRST:
            self._expected = False
            self.check += _AFTER_EXPECTED
        else:
            self.check += max(self._apart[0], self.check // self._apart[1])
        return image

    def restrict(self, samples: Tensor) -> None:
        """Do nothing: there is no state."""


def expected_iterations(radius: float, tol: float) -> int | None:
    """Return how many steps reach a tolerance; None where none may.

    Half of relu's states are at rest, and a step leaves 0.8 ρ(A) of the change; of a φ without rest
    it takes a step more at times.

    Args:
        radius: ρ(A).
        tol: largest relative residual.
    """
    rate = 0.8 * radius
    if not 0 < rate < 1:
        return None
    return math.ceil(math.log(tol) / math.log(rate))
