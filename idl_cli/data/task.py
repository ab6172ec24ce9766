"""What is to be predicted from what: the part of a data set that outlives its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

TaskKind = Literal["classification", "regression"]
JSONValue = str | int | float | bool | None | list["JSONValue"] | dict[str, "JSONValue"]


@dataclass(frozen=True)
class Task:
    """A supervised task.

    Args:
        kind: ``classification`` (targets are class indices 0 … output_dim-1) or ``regression``
            (targets are output_dim real numbers).
        input_shape: shape of one sample; images are (channels, height, width).
        output_dim: number of classes, or of real targets.
        class_names: one name a class, or None where the classes have none.
    """

    kind: TaskKind
    input_shape: tuple[int, ...]
    output_dim: int
    class_names: tuple[str, ...] | None = None

    @property
    def input_dim(self) -> int:
        """Number of features of one flattened sample."""
        return prod(self.input_shape)

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the task as plain JSON values."""
        return {
            "kind": self.kind,
            "input_shape": list(self.input_shape),
            "output_dim": self.output_dim,
            "class_names": None if self.class_names is None else list(self.class_names),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Task:
        """Remake a task from what ``to_dict`` returned."""
        kind, shape, names = values["kind"], values["input_shape"], values["class_names"]
        output_dim = values["output_dim"]
        assert kind in ("classification", "regression")
        assert isinstance(shape, list | tuple)
        assert isinstance(output_dim, int)
        assert names is None or isinstance(names, list | tuple)
        return cls(
            kind="classification" if kind == "classification" else "regression",
            input_shape=tuple(int(size) for size in shape),
            output_dim=output_dim,
            class_names=None if names is None else tuple(str(name) for name in names),
        )
