"""Models of sequences: the implicit recurrent network, and explicit networks beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import COMMAND_ONLY, Existing, Range
from idl_cli.config.schemas.solves import Backward, Count, Forward
from idl_cli.equilibrium.conditions import (
    ActivationName,
    WellPosedness,
    well_posedness_problems,
)

SequenceOutput: TypeAlias = Literal["last", "every"]
InitRun: TypeAlias = Annotated[str, Existing("directory")] | None
# Those that torch has a module of: the network is built from torch's own.
ModuleActivation: TypeAlias = Literal[
    "relu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "elu",
    "softplus",
    "softsign",
    "relu6",
    "hardtanh",
    "hardsigmoid",
    "logsigmoid",
    "softshrink",
    "gelu",
    "silu",
    "mish",
    "selu",
    "hardswish",
]


@dataclass(frozen=True)
class RNN:
    """Implicit recurrent network: each step's h_t comes from an equilibrium over (u_t, h_{t-1})."""

    name: Literal["rnn"] = "rnn"
    implicit_hidden_dim: Count = 20
    hidden_dim: Count = 20
    layers: Count = 1
    output: SequenceOutput = "last"
    truncate: Count | None = None
    rank: Count | None = None
    kappa: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 0.95
    bias: bool = False
    no_D: bool = False
    activation: ActivationName = "relu"
    well_posedness: WellPosedness = "linf"
    forward: Forward = field(default=Forward())
    backward: Backward = field(default=Backward())
    init_run: InitRun = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> list[str]:
        """Rank against size and shape, and κ against the activation's Lipschitz constant."""
        found = well_posedness_problems(
            hidden_dim=self.implicit_hidden_dim,
            rank=self.rank,
            kappa=self.kappa,
            activation=self.activation,
            well_posedness=self.well_posedness,
        )
        return [f"model.{sentence}" for sentence in found]


@dataclass(frozen=True)
class LSTM:
    """Long short-term memory network (torch.nn.LSTM) and a linear readout."""

    name: Literal["lstm"] = "lstm"
    hidden_dim: Count = 20
    layers: Count = 1
    output: SequenceOutput = "last"
    match_parameters: Count | None = None
    init_run: InitRun = field(default=None, metadata=COMMAND_ONLY)


@dataclass(frozen=True)
class GRU:
    """Gated recurrent network (torch.nn.GRU) and a linear readout."""

    name: Literal["gru"] = "gru"
    hidden_dim: Count = 20
    layers: Count = 1
    output: SequenceOutput = "last"
    match_parameters: Count | None = None
    init_run: InitRun = field(default=None, metadata=COMMAND_ONLY)


@dataclass(frozen=True)
class Transformer:
    """Small causal transformer encoder (torch.nn.TransformerEncoder) and a linear readout."""

    name: Literal["transformer"] = "transformer"
    hidden_dim: Count = 16
    heads: Count = 2
    layers: Count = 1
    output: SequenceOutput = "last"
    match_parameters: Count | None = None
    init_run: InitRun = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> list[str]:
        """Heads share the hidden dimension."""
        if self.hidden_dim % self.heads == 0:
            return []
        return [f"model.hidden_dim={self.hidden_dim} must be a multiple of heads={self.heads}."]


@dataclass(frozen=True)
class MLP:
    """Fully connected network on the flattened input."""

    name: Literal["mlp"] = "mlp"
    hidden_dims: tuple[Count, ...] = (64, 32, 16)
    activation: ModuleActivation = "relu"
    bias: bool = True
    match_parameters: Count | None = None
    init_run: InitRun = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> list[str]:
        """A network without hidden layers has no width to match."""
        if self.hidden_dims:
            return []
        return ["model.hidden_dims=[]: must name at least one hidden layer, such as [64, 32]"]
