"""Models to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from idl_cli.config.fields import COMMAND_ONLY, Existing, Range
from idl_cli.config.schemas.sequence_model import GRU, LSTM, MLP, RNN, Transformer
from idl_cli.config.schemas.solves import Backward, Count, Forward
from idl_cli.equilibrium.conditions import (
    ActivationName,
    WellPosedness,
    well_posedness_problems,
)

__all__ = ["GRU", "LSTM", "MLP", "RNN", "Implicit", "Transformer"]


@dataclass(frozen=True)
class Implicit:
    """Implicit model: x = φ(Ax + Bu + b), prediction Cx + Du + c."""

    name: Literal["implicit"] = "implicit"
    hidden_dim: Count = 100
    rank: Count | None = None
    kappa: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 0.95
    bias: bool = True
    no_D: bool = False
    activation: ActivationName = "relu"
    well_posedness: WellPosedness = "linf"
    forward: Forward = field(default=Forward())
    backward: Backward = field(default=Backward())
    init_run: Annotated[str, Existing("directory")] | None = field(
        default=None, metadata=COMMAND_ONLY
    )

    def problems(self) -> list[str]:
        """Rank against size and shape, and κ against the activation's Lipschitz constant."""
        found = well_posedness_problems(
            hidden_dim=self.hidden_dim,
            rank=self.rank,
            kappa=self.kappa,
            activation=self.activation,
            well_posedness=self.well_posedness,
        )
        return [f"model.{sentence}" for sentence in found]
