"""The optimisers of ``idl train``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import FRACTION, NON_NEGATIVE, POSITIVE

_Betas = tuple[Annotated[float, FRACTION], Annotated[float, FRACTION]]


@dataclass(frozen=True)
class Adam:
    """Adam: steps scaled by running moments of the gradient."""

    name: Literal["adam"] = "adam"
    lr: Annotated[float, POSITIVE] = 2e-3
    betas: _Betas = (0.9, 0.999)
    eps: Annotated[float, POSITIVE] = 1e-8
    weight_decay: Annotated[float, NON_NEGATIVE] = 0.0
    amsgrad: bool = False


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    lr: Annotated[float, POSITIVE] = 1e-3
    betas: _Betas = (0.9, 0.999)
    eps: Annotated[float, POSITIVE] = 1e-8
    weight_decay: Annotated[float, NON_NEGATIVE] = 1e-2
    amsgrad: bool = False


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with (Nesterov) momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[float, POSITIVE] = 1e-1
    momentum: Annotated[float, FRACTION] = 0.9
    nesterov: bool = False
    dampening: Annotated[float, NON_NEGATIVE] = 0.0
    weight_decay: Annotated[float, NON_NEGATIVE] = 0.0

    def problems(self) -> list[str]:
        """Nesterov's step is defined with momentum and without dampening."""
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            return [
                f"optimizer.nesterov=true: needs optimizer.momentum > 0 (now {self.momentum:g})"
                f" and optimizer.dampening=0 (now {self.dampening:g})"
            ]
        return []


@dataclass(frozen=True)
class RMSprop:
    """RMSprop: steps scaled by a running root mean square of the gradient."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: Annotated[float, POSITIVE] = 1e-3
    alpha: Annotated[float, FRACTION] = 0.99
    eps: Annotated[float, POSITIVE] = 1e-8
    momentum: Annotated[float, FRACTION] = 0.0
    centered: bool = False
    weight_decay: Annotated[float, NON_NEGATIVE] = 0.0


@dataclass(frozen=True)
class Adagrad:
    """Adagrad: steps scaled by all past gradients."""

    name: Literal["adagrad"] = "adagrad"
    lr: Annotated[float, POSITIVE] = 1e-2
    lr_decay: Annotated[float, NON_NEGATIVE] = 0.0
    eps: Annotated[float, POSITIVE] = 1e-10
    weight_decay: Annotated[float, NON_NEGATIVE] = 0.0
