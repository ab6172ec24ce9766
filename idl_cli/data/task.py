"""What is to be predicted from what: the part of a data set that outlives its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.forecast import Forecast
from idl_cli.json_value import JSONValue

TaskKind = Literal["classification", "regression"]


@dataclass(frozen=True)
class Task:
    """A supervised task.

    Args:
        kind: ``classification`` (targets are class indices 0 … output_dim-1) or ``regression``
            (targets are output_dim real numbers).
        input_shape: shape of one sample; images are (channels, height, width).
        output_dim: number of classes, or of real targets.
        class_names: one name a class, or None where the classes have none.
        sequence: whether a sample is a sequence: its shape is then (steps, features).
        target_scaling: how a regression's targets were scaled; None for targets in their own unit.
            Targets of a ``Split`` and outputs of a model are scaled, metrics never are.
        forecast: what is forecast, where the task is one.
    """

    kind: TaskKind
    input_shape: tuple[int, ...]
    output_dim: int
    class_names: tuple[str, ...] | None = None
    sequence: bool = False
    target_scaling: TargetScaling | None = None
    forecast: Forecast | None = None

    @property
    def input_dim(self) -> int:
        """Number of features of one flattened sample."""
        return prod(self.input_shape)

    @property
    def step_features(self) -> int:
        """Number of features of one step, as a model of sequences reads the samples.

        An image (channels, height, width) is read row by row, a vector number by number.
        """
        if self.sequence:
            return self.input_shape[-1]
        return prod(self.input_shape) // self.input_shape[min(1, len(self.input_shape) - 1)]

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the task as plain JSON values."""
        return {
            "kind": self.kind,
            "input_shape": list(self.input_shape),
            "output_dim": self.output_dim,
            "class_names": None if self.class_names is None else list(self.class_names),
            "sequence": self.sequence,
            "target_scaling": _described(self.target_scaling),
            "forecast": _described(self.forecast),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Task:
        """Remake a task from what ``to_dict`` returned."""
        kind, shape, names = values["kind"], values["input_shape"], values["class_names"]
        output_dim, scaling = values["output_dim"], values.get("target_scaling")
        forecast = values.get("forecast")
        assert kind in ("classification", "regression")
        assert isinstance(shape, list | tuple)
        assert isinstance(output_dim, int)
        assert names is None or isinstance(names, list | tuple)
        return cls(
            kind="classification" if kind == "classification" else "regression",
            input_shape=tuple(int(size) for size in shape),
            output_dim=output_dim,
            class_names=None if names is None else tuple(str(name) for name in names),
            sequence=bool(values.get("sequence", False)),
            target_scaling=TargetScaling.from_dict(scaling) if isinstance(scaling, dict) else None,
            forecast=Forecast.from_dict(forecast) if isinstance(forecast, dict) else None,
        )


def _described(part: TargetScaling | Forecast | None) -> JSONValue:
    return None if part is None else part.to_dict()
