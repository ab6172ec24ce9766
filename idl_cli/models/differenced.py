"""A forecaster that reads and predicts changes of a series instead of its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import TrainableModel


class Differenced(TrainableModel):
    """Forecasts the last value plus a predicted change.

    The model inside reads first differences in units of their spread, of the first step zero, and
    its outputs are changes from the last value in units of theirs: it neither sees nor needs the
    level of the series, which in a trend leaves the range of the training part. An untrained model
    starts near the persistence forecast.

    Args:
        model: maps sequences (m, steps, features) to outputs (m, horizon).
        target: the feature that is forecast.
        input_scale: spread of the changes of every feature.
        mean: mean change of the target, for each step of the horizon.
        scale: its spread, likewise.

    Raises:
        ArgumentError: the numbers do not fit each other.
    """

    input_scale: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        target: int,
        input_scale: Sequence[float],
        mean: Sequence[float],
        scale: Sequence[float],
    ) -> None:
        super().__init__()
        if not 0 <= target < len(input_scale) or len(mean) != len(scale):
            raise ArgumentError(
                f"target={target} of {len(input_scale)} features, {len(mean)} means and "
                f"{len(scale)} scales: a scale is needed for each feature and each output."
            )
        self.model = model
        self.target = target
        # Not in the state_dict: they belong to the task, which is stored beside the weights.
        for name, values in (("input_scale", input_scale), ("mean", mean), ("scale", scale)):
            self.register_buffer(name, torch.tensor(list(values)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Forecast.

        Args:
            inputs: the window's values (m, steps, features).

        Returns:
            The next values (m, horizon), in the unit of the inputs.

        Raises:
            ShapeError: the inputs have another number of features.
        """
        if inputs.dim() != 3 or inputs.shape[2] != len(self.input_scale):
            raise ShapeError(
                f"the input has shape {tuple(inputs.shape)}; expected windows as (samples, steps, "
                f"{len(self.input_scale)})."
            )
        changes = torch.diff(inputs, dim=1, prepend=inputs[:, :1]) / self.input_scale
        predicted = cast(Tensor, self.model(changes))
        return inputs[:, -1, self.target, None] + (self.mean + self.scale * predicted)

    def constrain_(self) -> None:
        """Project the parameters of the model inside on its constraint set."""
        if isinstance(self.model, TrainableModel):
            self.model.constrain_()

    @property
    def solve_statistics(self) -> SolveStatistics | None:
        """The counts of the solves of the model inside."""
        return self.model.solve_statistics if isinstance(self.model, TrainableModel) else None

    def inf_norm_A(self) -> float | None:
        """Return ‖A‖∞ of the model inside."""
        return self.model.inf_norm_A() if isinstance(self.model, TrainableModel) else None

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the arguments of the model inside."""
        assert isinstance(self.model, TrainableModel)
        return self.model.constructor_arguments()
