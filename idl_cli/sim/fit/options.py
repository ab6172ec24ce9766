"""What a state-driven training is asked for: the problem's own numbers, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idl_cli.config.arguments import check_ranges
from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.conditions import well_posedness_problems
from idl_cli.errors import ArgumentError
from idl_cli.models.activation_modules import activation_name
from idl_cli.sim.options import ProblemOptions
from idl_cli.sim.states.layout import StateLayout

ActivationLike = str | Callable[[Tensor], Tensor]
"""A name, or whatever maps a tensor to one: a function, a module."""


@dataclass(frozen=True, kw_only=True)
class SimOptions(ProblemOptions):
    """The numbers of both stages, and which states are matched; see ``SIM`` for their meaning.

    Raises:
        ArgumentError: values are out of range; all are named at once.
    """

    states: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_ranges(ProblemOptions, self)
        problems = list(self.problems())
        if self.structure == "convolution" and self.states is not None:
            problems.append(
                f"states={list(self.states)}: structure=convolution needs the states of all "
                "layers; leave them out (teacher.states=null)"
            )
        if problems:
            raise ArgumentError("; ".join(problems))

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
            well_posedness="linf" if self.structure == "full" else "triangular",
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
