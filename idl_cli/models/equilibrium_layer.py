"""A layer whose output is the fixed point of a user's own cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from idl_cli.equilibrium.any_map import fixed_point
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings, check_shine
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.models.solve_settings import settings_of


class Equilibrium(nn.Module):
    """x = cell(x, *inputs), solved for every sample, with the implicit gradient.

    Args:
        cell: any module that maps x (samples, ...) and inputs to the shape of x, samples apart.
        forward: how x is solved, as ``fixed_point``; settings or their fields.
        backward: how the gradient is solved; settings or their fields.

    Raises:
        ArgumentError: a setting is out of range or unknown.
    """

    def __init__(
        self,
        cell: nn.Module,
        *,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.forward_settings = settings_of(FixedPointSettings, forward, "forward")
        self.backward_settings = settings_of(AdjointSettings, backward, "backward")
        check_shine(self.forward_settings, self.backward_settings)
        self.solve_statistics = SolveStatistics()

    def forward(self, x0: Tensor, *inputs: Any) -> Tensor:
        """Return x (samples, ...).

        Args:
            x0: first iterates, zeros or the last solution; no gradient flows to them.
            inputs: handed to the cell after x, the same at every iteration.

        Raises:
            ShapeError: the cell changes the shape or dtype of x.
        """
        return fixed_point(
            lambda x: self.cell(x, *inputs),
            x0,
            forward=self.forward_settings,
            backward=self.backward_settings,
            statistics=self.solve_statistics,
        )
