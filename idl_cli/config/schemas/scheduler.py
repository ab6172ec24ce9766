"""The learning-rate schedules of ``idl train``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import NON_NEGATIVE, POSITIVE, Range

_UNIT_INTERVAL = Range(0, 1)
_POSITIVE_FRACTION = Range(0, 1, low_open=True)


@dataclass(frozen=True)
class Constant:
    """The optimizer's learning rate throughout."""

    name: Literal["constant"] = "constant"
    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the optimizer's learning rate down."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0
    min_factor: Annotated[float, _UNIT_INTERVAL] = 0.0


@dataclass(frozen=True)
class Step:
    """The learning rate times gamma after every so many epochs."""

    name: Literal["step"] = "step"
    every_epochs: Annotated[float, POSITIVE] = 10.0
    gamma: Annotated[float, _POSITIVE_FRACTION] = 0.1
    warmup_epochs: Annotated[float, NON_NEGATIVE] = 0.0


@dataclass(frozen=True)
class OneCycle:
    """Up to the optimizer's learning rate and down to almost nothing."""

    name: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: Annotated[float, Range(0, 1, high_open=True)] = 0.3
    initial_factor: Annotated[float, _POSITIVE_FRACTION] = 0.04
    final_factor: Annotated[float, _UNIT_INTERVAL] = 4e-6
