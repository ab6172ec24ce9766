"""Whose states `idl sim` matches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import AT_LEAST_ONE, COMMAND_ONLY, POSITIVE, Existing

Width: TypeAlias = Annotated[int, AT_LEAST_ONE]
States: TypeAlias = tuple[str, ...] | None
Activation: TypeAlias = Literal[
    "relu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "elu",
    "softplus",
    "softsign",
    "hardtanh",
    "relu6",
    "hardsigmoid",
    "logsigmoid",
    "softshrink",
]


@dataclass(frozen=True)
class Mlp:
    """A fully connected network, trained on the spot in seconds or taken from an earlier run."""

    name: Literal["mlp"] = "mlp"
    hidden_dims: tuple[Width, ...] = (64, 32, 16)
    activation: Activation = "relu"
    bias: bool = True
    epochs: Width = field(default=20, metadata=COMMAND_ONLY)
    batch_size: Width = field(default=128, metadata=COMMAND_ONLY)
    lr: Annotated[float, POSITIVE] = field(default=3e-3, metadata=COMMAND_ONLY)
    run: Annotated[str, Existing("directory")] | None = field(default=None, metadata=COMMAND_ONLY)
    states: States = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """A network without hidden layers has no states."""
        if not self.hidden_dims:
            yield "teacher.hidden_dims=[]: must name at least one hidden layer, such as [64, 32]"
        yield from _state_problems(self.states)


@dataclass(frozen=True)
class Cnn:
    """A small convolution network for images, trained on the spot or taken from an earlier run."""

    name: Literal["cnn"] = "cnn"
    channels: tuple[Width, ...] = (4, 8)
    hidden_dim: Width = 32
    kernel_size: Width = 3
    activation: Activation = "relu"
    bias: bool = True
    epochs: Width = field(default=20, metadata=COMMAND_ONLY)
    batch_size: Width = field(default=128, metadata=COMMAND_ONLY)
    lr: Annotated[float, POSITIVE] = field(default=3e-3, metadata=COMMAND_ONLY)
    run: Annotated[str, Existing("directory")] | None = field(default=None, metadata=COMMAND_ONLY)
    states: States = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """A kernel has a middle."""
        if self.kernel_size % 2 == 0:
            yield f"teacher.kernel_size={self.kernel_size}: must be odd, such as 3 or 5"
        yield from _state_problems(self.states)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The trained model of any run: an implicit model, or a network kept by an earlier run."""

    name: Literal["run"] = "run"
    run: Annotated[str, Existing("directory")]
    states: States = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """A run is a directory's path, never an empty text."""
        if not self.run:
            yield "teacher.run=: must be the directory of a run, as outputs/train/<date>_<time>"
        yield from _state_problems(self.states)


def _state_problems(states: States) -> Iterator[str]:
    if states is not None and not states:
        yield "teacher.states=[]: must name at least one activation, or be null for all of them"
