"""What the columns of predictions are called, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idl_cli.data.files.npy_format import Array
from idl_cli.data.task import Task
from idl_cli.export.predictor import Predictions


@dataclass(frozen=True)
class Layout:
    """The columns of a file of predictions.

    Args:
        task: of the model.
        class_names: of a classifier; empty of a regression.
        probabilities: whether those of all classes are written.
    """

    task: Task
    class_names: tuple[str, ...]
    probabilities: bool

    @property
    def value_names(self) -> list[str]:
        """Columns of the predicted values: the class, or one for each target."""
        if self.task.kind == "classification":
            return ["class"]
        if self.task.forecast is not None:
            forecast = self.task.forecast
            return [f"{forecast.target}+{step}" for step in range(1, forecast.horizon + 1)]
        if self.task.output_dim == 1:
            return ["prediction"]
        return [f"prediction_{index}" for index in range(self.task.output_dim)]

    @property
    def probability_names(self) -> list[str]:
        """Columns of the probabilities that are written."""
        return [f"probability_{name}" for name in self.class_names] if self.probabilities else []

    def columns(self, predictions: Predictions) -> Mapping[str, Sequence[object]]:
        """Texts and numbers by column; None where there is no prediction."""
        bad, count = predictions.problems, len(predictions.names)
        columns: dict[str, Sequence[object]] = {"row": predictions.names}
        if self.task.kind == "classification":
            named = (self.class_names[index] for index in predictions.values.tolist())
            columns["class"] = [None if row in bad else name for row, name in enumerate(named)]
        else:
            columns.update(_numbers(self.value_names, predictions.values, bad))
        if self.probabilities and predictions.probabilities is not None:
            columns.update(_numbers(self.probability_names, predictions.probabilities, bad))
        columns["problem"] = [bad.get(row) for row in range(count)]
        return columns

    def array(self, predictions: Predictions) -> Array:
        """The numbers alone: probabilities where they are asked for, else classes or targets."""
        if self.probabilities and predictions.probabilities is not None:
            return predictions.probabilities
        values = predictions.values
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _numbers(
    names: Sequence[str], values: Array, bad: Mapping[int, str]
) -> dict[str, Sequence[object]]:
    rows = np.asarray(values).tolist()
    return {
        name: [None if row in bad else entries[index] for row, entries in enumerate(rows)]
        for index, name in enumerate(names)
    }
