"""Learning-rate schedules as pure functions of the optimiser step.

The learning rate of step t (0, 1, …) is the optimiser's own times a factor f(t) that depends on
nothing else, so the whole state of a schedule is t. Warm-up multiplies the factor by (t+1)/w for
t < w and by 1 later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypedDict

from torch.optim import Optimizer

from idl_cli.config.arguments import keywords_of
from idl_cli.training.options import ConstantOptions, CosineOptions, OneCycleOptions, StepOptions

Factor = Callable[[int], float]


class SchedulerState(TypedDict):
    """The state of a schedule: JSON values."""

    step: int
    base_lrs: list[float]


class Scheduler:
    """Sets the learning rate of every parameter group to its base value times ``factor(step)``.

    Args:
        optimizer: whose learning rates are set; the present ones are the base values.
        factor: multiplier of step t ≥ 0.
    """

    def __init__(self, optimizer: Optimizer, factor: Factor) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._step = 0
        self._base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self._apply()

    @property
    def lr(self) -> float:
        """Learning rate of the next step, in the first parameter group."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """Move on; call once after each optimiser step."""
        self._step += 1
        self._apply()

    def scale(self, factor: float) -> None:
        """Multiply the learning rates of all steps to come."""
        self._base_lrs = [factor * lr for lr in self._base_lrs]
        self._apply()

    def state_dict(self) -> SchedulerState:
        """Return the state, as JSON values."""
        return {"step": self._step, "base_lrs": list(self._base_lrs)}

    def load_state_dict(self, state: SchedulerState | Mapping[str, object]) -> None:
        """Continue from a state."""
        step, base_lrs = state["step"], state["base_lrs"]
        assert isinstance(step, int)
        assert isinstance(base_lrs, list)
        self._step, self._base_lrs = step, [float(lr) for lr in base_lrs]
        self._apply()

    def _apply(self) -> None:
        factor = self._factor(self._step)
        for group, base in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = base * factor


@keywords_of(ConstantOptions)
def constant(
    options: ConstantOptions, optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> Scheduler:
    """The optimiser's learning rate throughout, after a linear warm-up.

    Args:
        options: the keys of the schedule's YAML, each a keyword argument of its own, as for all.
        optimizer: whose learning rate is set.
        total_steps: optimiser steps of the whole training.
        steps_per_epoch: optimiser steps of one epoch.

    Raises:
        ArgumentError: a key is out of range.
    """
    del total_steps
    warmup = round(options.warmup_epochs * steps_per_epoch)
    return Scheduler(optimizer, lambda step: _warmup(step, warmup))


@keywords_of(CosineOptions)
def cosine(
    options: CosineOptions, optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> Scheduler:
    """Half a cosine from the optimiser's learning rate down to ``min_factor`` times it.

    Loshchilov and Hutter, "SGDR", ICLR 2017 (arXiv 1608.03983), without restarts, over the steps
    that the warm-up leaves. Arguments as of ``constant``.
    """
    warmup = round(options.warmup_epochs * steps_per_epoch)
    length = max(1, total_steps - warmup)

    def factor(step: int) -> float:
        progress = min(max(step - warmup, 0) / length, 1.0)
        annealed = (
            options.min_factor + (1 - options.min_factor) * (1 + math.cos(math.pi * progress)) / 2
        )
        return _warmup(step, warmup) * annealed

    return Scheduler(optimizer, factor)


@keywords_of(StepOptions)
def step(
    options: StepOptions, optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> Scheduler:
    """The learning rate times ``gamma`` every so many epochs; arguments as of ``constant``."""
    del total_steps
    warmup = round(options.warmup_epochs * steps_per_epoch)
    every = max(1, round(options.every_epochs * steps_per_epoch))
    return Scheduler(
        optimizer, lambda step: _warmup(step, warmup) * options.gamma ** (step // every)
    )


@keywords_of(OneCycleOptions)
def one_cycle(
    options: OneCycleOptions, optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> Scheduler:
    """Up to the optimiser's learning rate and down to almost nothing, by half cosines.

    Smith and Topin, "Super-convergence" (arXiv 1708.07120); the defaults are those of
    ``torch.optim.lr_scheduler.OneCycleLR`` with ``max_lr`` the optimiser's learning rate, which is
    the peak. Its warm-up is the way up. Arguments as of ``constant``.
    """
    del steps_per_epoch
    peak = options.warmup_fraction * total_steps - 1
    last = max(total_steps - 1, 1)

    def factor(step: int) -> float:
        if step < peak:
            return _half_cosine(options.initial_factor, 1.0, step / peak)
        return _half_cosine(1.0, options.final_factor, min((step - peak) / (last - peak), 1.0))

    return Scheduler(optimizer, factor)


def _warmup(step: int, length: int) -> float:
    return min((step + 1) / length, 1.0) if length else 1.0


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
