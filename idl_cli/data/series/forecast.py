"""What makes a regression a forecast: which past value the persistence forecast repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from idl_cli.data.series.differences import Differences

if TYPE_CHECKING:
    from idl_cli.json_value import JSONValue


@dataclass(frozen=True)
class Forecast:
    """A forecast of the next values of one feature of a sequence.

    Args:
        target: name of what is forecast, as plots call it.
        target_feature: its position among the features of a step.
        horizon: how many of its next values are forecast, one output each.
        differences: the changes that a model reads and predicts; None where it does values.
    """

    target: str
    target_feature: int
    horizon: int
    differences: Differences | None = None

    def persistence(self, inputs: Tensor) -> Tensor:
        """Repeat the last observed value: the forecast that any model has to beat.

        Args:
            inputs: raw samples (m, steps, features), in their own unit.

        Returns:
            Tensor (m, horizon) in the target's own unit.
        """
        return inputs[:, -1, self.target_feature, None].expand(-1, self.horizon)

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the description as plain JSON values."""
        return {
            "target": self.target,
            "target_feature": self.target_feature,
            "horizon": self.horizon,
            "differences": None if self.differences is None else self.differences.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Forecast:
        """Remake a description from what ``to_dict`` returned."""
        feature, horizon = values["target_feature"], values["horizon"]
        assert isinstance(feature, int)
        assert isinstance(horizon, int)
        differences = values.get("differences")
        return cls(
            str(values["target"]),
            feature,
            horizon,
            Differences.from_dict(differences) if isinstance(differences, dict) else None,
        )
