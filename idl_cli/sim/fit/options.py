"""What a state-driven training is asked for: the problem's own numbers, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.conditions import well_posedness_problems
from idl_cli.errors import ArgumentError
from idl_cli.models.activation_modules import activation_name
from idl_cli.sim.regression.problem import LambdaScale
from idl_cli.sim.states.layout import StateLayout

ActivationLike = str | Callable[[Tensor], Tensor]
"""A name, or whatever maps a tensor to one: a function, a module."""


@dataclass(frozen=True, kw_only=True)
class SimOptions:
    """The numbers of both stages; see ``SIM`` for their meaning.

    Raises:
        ArgumentError: values are out of range; all are named at once.
    """

    kappa: float = 0.95
    lambda_z: float = 1e-5
    lambda_y: float = 1e-6
    lambda_scale: LambdaScale = "relative"
    l2: float = 0.0
    rescale: bool = True
    regenerate_states: bool = True
    tol: float = 1e-6
    samples: int | None = None
    states: Sequence[str] | None = None
    max_time: float | None = None

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ArgumentError("; ".join(problems))

    def _problems(self) -> list[str]:
        problems = []
        if not 0 < self.kappa < 1:
            problems.append(f"kappa={self.kappa:g} must be in (0, 1)")
        for name in ("lambda_z", "lambda_y", "l2"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                problems.append(f"{name}={value:g} must be a finite number >= 0")
        if self.lambda_scale not in get_args(LambdaScale):
            allowed = ", ".join(get_args(LambdaScale))
            problems.append(f"lambda_scale={self.lambda_scale!r} must be one of {allowed}")
        if not 0 < self.tol < 1:
            problems.append(f"tol={self.tol:g} must be in (0, 1)")
        if self.samples is not None and self.samples < 1:
            problems.append(f"samples={self.samples} must be at least 1, or None for all")
        if self.max_time is not None and not self.max_time > 0:
            problems.append(f"max_time={self.max_time:g} must be positive seconds, or None")
        return problems

    def check_activation(self, layout: StateLayout, wanted: str | None) -> None:
        """Refuse a teacher whose activation is not the one asked for, or that κ cannot tame.

        Raises:
            ArgumentError: the message names both activations, or the largest κ allowed.
        """
        name = layout.activation.name
        if wanted is not None and wanted != name:
            raise ArgumentError(
                f"activation_fn is {wanted}, but the teacher's activations are {name}; leave "
                "activation_fn out to take the teacher's"
            )
        problems = well_posedness_problems(
            hidden_dim=layout.state_dim,
            rank=None,
            kappa=self.kappa,
            activation=name,
            well_posedness="linf",
        )
        if problems:
            raise ArgumentError(" ".join(problems))


def known_activation(activation: ActivationLike) -> str:
    """The name of an activation given as a name, a module, or a function such as ``torch.relu``.

    A module is recognised as those of a teacher are, a function by its values.

    Raises:
        ArgumentError: it is none that implicit models know.
    """
    if isinstance(activation, str):
        return get_activation(activation).name
    if isinstance(activation, nn.Module):
        name = activation_name(activation)
        if name is not None:
            return name
    else:
        near = torch.linspace(-7, 7, 57, dtype=torch.float64)
        far = torch.tensor([10.0, 25.0, 60.0, 1e3, 1e6], dtype=torch.float64)
        points = torch.cat([-far, near, far])
        values = activation(points.clone())
        for name in activation_names() if isinstance(values, Tensor) else ():
            expected = get_activation(name).function(points)
            if torch.allclose(values, expected, rtol=1e-12, atol=1e-12):
                return name
    raise ArgumentError(
        f"activation_fn={activation!r} is no activation known here; choose one of "
        f"{', '.join(activation_names())}, or leave it out to take the teacher's"
    )
