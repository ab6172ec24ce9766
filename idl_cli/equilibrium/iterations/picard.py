"""Plain steps."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from idl_cli.equilibrium.iterations.step_method import StepMethod

# A product of one sample with A of 1,000 states takes as long as a check.
_COSTLY_STATES = 1000
# Multiplications a state of a product that takes ten times as long as a check by norm.
_COSTLY_SHARE = 200


class Picard(StepMethod):
    """x ← f(x): contracts at the rate of f, and costs one evaluation a step.

    For a small model a check, and setting finished samples aside, cost more than a step. So checks
    are spread out, on iterations 7, 10, 13, 16, 20, 25, ...: most samples of a model in training
    need six to nine for a tolerance of 1e-5. At most a fifth of a long solve is spent in vain, and
    what is spent is counted. With so many states that a step costs more than a check, iteration 4
    is checked too; with a product that costs as much as ten checks by norm, all that follow are.

    Args:
        states: n.
        multiplications: those of a step, of one sample; 0 where they are not known.
    """

    def __init__(self, states: int, multiplications: int = 0) -> None:
        self.confirms = multiplications >= max(_COSTLY_STATES**2, _COSTLY_SHARE * states)
        self.check = 4 if self.confirms or states >= _COSTLY_STATES else 7

    def step(
        self, function: Callable[..., Tensor], x: Tensor, image: Tensor, residual: Tensor | None
    ) -> Tensor:
        """Return f(x)."""
        if residual is not None:
            self.check += max(1, self.check // 8) if self.confirms else max(3, self.check // 4)
        return image

    def restrict(self, samples: Tensor) -> None:
        """Do nothing: there is no state."""
