"""Against which perturbations a model is trained, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, Literal

from idl_cli.config.arguments import check_ranges
from idl_cli.config.fields import AT_LEAST_ONE, FINITE_NON_NEGATIVE, FINITE_POSITIVE, Range

RobustName = Literal["none", "interval", "adversarial"]
ROBUST_FIGURES: Final[Mapping[str, str]] = MappingProxyType(
    {"interval": "certified_accuracy", "adversarial": "attacked_accuracy"}
)
"""The accuracy that each robust training is about."""

_SHARE = Range(0, 1)


@dataclass(frozen=True)
class PerturbationSettings:
    """The l∞ balls that a robust training looks at.

    ε and the weight of the worst case grow together: the first epochs are plain training, then both
    rise in proportion to the steps (Gowal et al. 2018, arXiv 1810.12715; a start at the full ε ends
    in a constant prediction).

    Args:
        epsilon: ε, how far each value of an input may be changed: in the data's own unit, of pixels
            in [0, 1], whatever the normalisation. Validation is at this ε.
        train_factor: training ends at ε times this: a little more than is asked for leaves fewer
            samples on the edge.
        clean_epochs: passes before ε leaves 0.
        ramp_epochs: passes in which ε and the weight of the worst case grow to what they will be; 0
            starts there.
        clean_weight: weight of the loss without perturbation at the end, that of the worst case
            being one minus it; larger gives more clean accuracy and less robust accuracy.
        attack_steps: gradients of an attack, with ``adversarial``: signs, 2.5 ε/steps each.
    """

    epsilon: Annotated[float, FINITE_NON_NEGATIVE] = 0.1
    train_factor: Annotated[float, FINITE_POSITIVE] = 1.0
    clean_epochs: Annotated[float, FINITE_NON_NEGATIVE] = 1.0
    ramp_epochs: Annotated[float, FINITE_NON_NEGATIVE] = 10.0
    clean_weight: Annotated[float, _SHARE] = 0.0
    attack_steps: Annotated[int, AT_LEAST_ONE] = 10

    def __post_init__(self) -> None:
        check_ranges(PerturbationSettings, self)

    def stage(self, epoch: float) -> Stage:
        """Return where the schedule stands after that many passes, fractions included."""
        past = epoch - self.clean_epochs
        share = (past >= 0) * 1.0 if self.ramp_epochs == 0 else past / self.ramp_epochs
        share = min(max(share, 0.0), 1.0)
        return Stage(
            epsilon=share * self.train_factor * self.epsilon,
            clean_weight=1 - share * (1 - self.clean_weight),
        )


@dataclass(frozen=True)
class Stage:
    """Where a schedule stands.

    Attributes:
        epsilon: ε in the data's own unit.
        clean_weight: weight of the loss without perturbation.
    """

    epsilon: float
    clean_weight: float
