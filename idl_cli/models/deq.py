"""Deep equilibrium model: the fixed point of a cell, and a linear readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from idl_cli.config.arguments import check_options
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ShapeError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import TrainableModel
from idl_cli.models.cells import CELLS
from idl_cli.models.equilibrium_layer import Equilibrium
from idl_cli.models.options import DeqOptions


class DEQ(TrainableModel):
    """Deep equilibrium model (Bai, Kolter and Koltun, NeurIPS 2019, arXiv 1909.01377).

    x = cell(x, u) is solved for every sample from x = 0, and ŷ = Cx + c. Nothing keeps the cell a
    contraction: a solve that fails warns and is counted.

    Args:
        input_dim: p; the product of the trailing dimensions of the input.
        output_dim: q.
        hidden_dim: number of states n.
        cell: its name in ``models.cells.CELLS``.
        forward: how fixed points are solved: settings or their fields.
        backward: how gradients are solved: settings or their fields.

    Raises:
        ArgumentError: a value is out of range, or there is no such cell.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: int = DeqOptions.hidden_dim,
        cell: str = DeqOptions.cell,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_options(DeqOptions, {"hidden_dim": hidden_dim, "cell": cell})
        self.input_dim, self.output_dim, self.hidden_dim = input_dim, output_dim, hidden_dim
        self.cell_name = cell
        module, attribute = CELLS[cell].split(":")
        make: type[nn.Module] = getattr(import_module(module), attribute)
        self.equilibrium = Equilibrium(
            make(input_dim, hidden_dim), forward=forward, backward=backward
        )
        self.readout = nn.Linear(hidden_dim, output_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ŷ (m, q) of inputs u (m, ...).

        Raises:
            ShapeError: the input has another size.
        """
        u = inputs.flatten(1)
        if u.shape[1] != self.input_dim:
            raise ShapeError(
                f"the input has shape {tuple(inputs.shape)}; expected (samples, ...) with "
                f"{self.input_dim} values a sample."
            )
        prediction: Tensor = self.readout(self.equilibrium(u.new_zeros(len(u), self.hidden_dim), u))
        return prediction

    @property
    def solve_statistics(self) -> SolveStatistics:
        """The counts of this model's solves since their last reset."""
        return self.equilibrium.solve_statistics

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "hidden_dim": self.hidden_dim,
            "cell": self.cell_name,
            "forward": asdict(self.equilibrium.forward_settings),
            "backward": asdict(self.equilibrium.backward_settings),
        }
