"""Options of the optimisers, the schedules and the trainer of ``idl train``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    COMMAND_ONLY,
    FRACTION,
    LENGTH,
    NON_NEGATIVE,
    POSITIVE,
    PROCESS_COUNT,
    PROCESSES,
    SINGLE_NON_NEGATIVE,
    SINGLE_POSITIVE,
    Range,
)
from idl_cli.training.settings import TrainerSettings

_UNIT_INTERVAL = Range(0, 1)
_POSITIVE_FRACTION = Range(0, 1, low_open=True)
_Betas = tuple[Annotated[float, FRACTION], Annotated[float, FRACTION]]


@dataclass(frozen=True, kw_only=True)
class AdamOptions:
    """Adam: steps scaled by running moments of the gradient."""

    lr: Annotated[float, SINGLE_POSITIVE] = 2e-3
    betas: _Betas = (0.9, 0.999)
    eps: Annotated[float, SINGLE_POSITIVE] = 1e-8
    weight_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0
    amsgrad: bool = False


@dataclass(frozen=True, kw_only=True)
class AdamwOptions:
    """Adam with decoupled weight decay."""

    lr: Annotated[float, SINGLE_POSITIVE] = 1e-3
    betas: _Betas = (0.9, 0.999)
    eps: Annotated[float, SINGLE_POSITIVE] = 1e-8
    weight_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 1e-2
    amsgrad: bool = False


@dataclass(frozen=True, kw_only=True)
class SgdOptions:
    """Stochastic gradient descent with (Nesterov) momentum."""

    lr: Annotated[float, SINGLE_POSITIVE] = 1e-1
    momentum: Annotated[float, FRACTION] = 0.9
    nesterov: bool = False
    dampening: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0
    weight_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0

    def problems(self) -> list[str]:
        """Nesterov's step is defined with momentum and without dampening."""
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            return [
                f"nesterov=true: needs optimizer.momentum > 0 (now {self.momentum:g})"
                f" and optimizer.dampening=0 (now {self.dampening:g})"
            ]
        return []


@dataclass(frozen=True, kw_only=True)
class RmspropOptions:
    """RMSprop: steps scaled by a running root mean square of the gradient."""

    lr: Annotated[float, SINGLE_POSITIVE] = 1e-3
    alpha: Annotated[float, FRACTION] = 0.99
    eps: Annotated[float, SINGLE_POSITIVE] = 1e-8
    momentum: Annotated[float, FRACTION] = 0.0
    centered: bool = False
    weight_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0


@dataclass(frozen=True, kw_only=True)
class AdagradOptions:
    """Adagrad: steps scaled by all past gradients."""

    lr: Annotated[float, SINGLE_POSITIVE] = 1e-2
    lr_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0
    eps: Annotated[float, SINGLE_POSITIVE] = 1e-10
    weight_decay: Annotated[float, SINGLE_NON_NEGATIVE] = 0.0


# -- schedules of the learning rate ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConstantOptions:
    """The optimizer's learning rate throughout."""

    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0


@dataclass(frozen=True, kw_only=True)
class CosineOptions:
    """Half a cosine from the optimizer's learning rate down."""

    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0
    min_factor: Annotated[float, _UNIT_INTERVAL] = 0.0


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """The learning rate times gamma after every so many epochs."""

    every_epochs: Annotated[float, POSITIVE] = 10.0
    gamma: Annotated[float, _POSITIVE_FRACTION] = 0.1
    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0


@dataclass(frozen=True, kw_only=True)
class OneCycleOptions:
    """Up to the optimizer's learning rate and down to almost nothing."""

    warmup_fraction: Annotated[float, FRACTION] = 0.3
    initial_factor: Annotated[float, _POSITIVE_FRACTION] = 0.04
    final_factor: Annotated[float, _UNIT_INTERVAL] = 4e-6


# -- the trainer -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GradientTrainerOptions(TrainerSettings):
    """Gradient descent through the equilibrium (implicit differentiation)."""

    batch_size: Annotated[int, AT_LEAST_ONE] = field(default=128, metadata=COMMAND_ONLY)
    devices: Annotated[int, PROCESS_COUNT] | tuple[Annotated[int, NON_NEGATIVE], ...] | None = (
        field(default=None, metadata={**COMMAND_ONLY, **PROCESSES})
    )
    dry_run: bool = field(default=False, metadata={**COMMAND_ONLY, **LENGTH})

    def problems(self) -> Iterator[str]:
        """What belongs to the cross-entropy does not go with the mean squared error."""
        if self.loss == "mse" and self.label_smoothing:
            yield (
                f"label_smoothing={self.label_smoothing:g}: trainer.loss=mse has no label"
                " smoothing; use trainer.loss=auto or cross_entropy, or set it to 0"
            )
        if self.loss == "mse" and self.robust != "none":
            yield (
                f"robust={self.robust}: the worst case of trainer.loss=mse is not known; use"
                " trainer.loss=auto or cross_entropy"
            )
        for key in ("mixup", "cutmix"):
            if getattr(self, key) and self.robust != "none":
                yield (
                    f"{key}={getattr(self, key):g}: a mixed sample has no one class that"
                    f" trainer.robust={self.robust} could defend; set it to 0, or use"
                    " trainer.robust=none"
                )
        if self.loss == "mse" and self.class_weights is not None:
            yield (
                "class_weights: trainer.loss=mse weighs all samples alike; use"
                " trainer.loss=auto or cross_entropy, or set it to null"
            )
