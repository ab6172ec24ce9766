"""A run's model applied to raw samples, as the run itself would: its preprocessing, its units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.data.files.npy_format import Array
from idl_cli.data.input_scale import in_unit_of, unit_doubt
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.errors import RunError
from idl_cli.export.reading.rows import Rows
from idl_cli.run import LoadedRun


@dataclass(frozen=True)
class Predictions:
    """What a model says of some samples.

    Args:
        names: what the samples are called.
        values: classes (m,) int64, -1 where there is none, or targets (m, q) in their own unit,
            NaN where there is none.
        probabilities: of the classes (m, q), NaN where there are none; None of a regression.
        problems: why a sample has no prediction, by its position.
    """

    names: list[str]
    values: Array
    probabilities: Array | None
    problems: Mapping[int, str]


class Predictor:
    """A model with its preprocessing and the units of its outputs.

    Args:
        run: the loaded run.
        device: where to compute.

    Raises:
        RunError: the run does not say what its model predicts, or from what.
    """

    def __init__(self, run: LoadedRun, device: torch.device) -> None:
        if run.task is None:
            raise RunError(
                f"{run.path}: does not say what its model predicts; save it with task= and"
                " preprocessing= of RunDirectory.save_model"
            )
        self.task: Task = run.task
        self._model = run.model.to(device).eval()
        self._device, self._dtype = device, run.dtype
        self._preprocessing = run.preprocessing or Preprocessing("none", run.task.input_shape)
        self._chosen: Preprocessing | None = None
        self.doubt: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers where they have none."""
        return self.task.class_names or tuple(map(str, range(self.task.output_dim)))

    @torch.no_grad()
    def __call__(self, rows: Rows, source: str) -> Predictions:
        """Predict; the unit of the samples is judged by the first of them.

        Args:
            rows: raw samples.
            source: their name in a message.

        Raises:
            ConfigError: the samples are stored in another unit than those of the training.
        """
        problems = dict(rows.problems)
        usable = [row for row in range(len(rows.values)) if row not in problems]
        raw = rows.values[usable]
        if len(usable):
            outside = self._outside(raw, source)
            for position in outside.nonzero().flatten().tolist():
                problems[usable[position]] = "a pixel lies outside the range of the others"
            outputs = self._outputs(raw)
            lost = ~outputs.isfinite().all(dim=1)
            for position in lost.nonzero().flatten().tolist():
                problems.setdefault(usable[position], "the model's output is not finite")
        else:
            outputs = torch.empty(0, self.task.output_dim)
        full = torch.full((len(rows.values), outputs.shape[1]), torch.nan, dtype=torch.float64)
        full[usable] = outputs.double().cpu()
        full[list(problems)] = torch.nan
        names = list(rows.names)
        if self.task.kind == "regression":
            return Predictions(names, full.numpy(), None, problems)
        classes = full.nan_to_num().argmax(dim=1)
        classes[list(problems)] = -1
        return Predictions(names, classes.numpy(), full.softmax(dim=1).numpy(), problems)

    def _outside(self, raw: Tensor, source: str) -> Tensor:
        """Samples (m,) whose pixels are beyond those that the first ones are."""
        pixels = self._preprocessing.divisor != 1.0
        if self._chosen is None:
            stored = 255.0 if raw.dtype == torch.uint8 else 1.0
            self._chosen = in_unit_of(self._preprocessing, raw, stored, f"input={source}")
            self.doubt = unit_doubt(self._chosen, raw)
        flat = raw.flatten(1)
        if not pixels:
            return torch.zeros(len(raw), dtype=torch.bool)
        return ((flat < 0) | (flat > self._chosen.divisor)).any(dim=1)

    def _outputs(self, raw: Tensor) -> Tensor:
        assert self._chosen is not None
        inputs = self._chosen.on(self._device, self._dtype)(raw)
        outputs: Tensor = self._model(inputs)
        scaling = self.task.target_scaling
        return outputs if scaling is None else scaling.unscale(outputs)
