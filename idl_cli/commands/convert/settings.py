"""The root keys of ``idl convert``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE, PROPER_FRACTION, Existing, Section
from idl_cli.config.metric_names import metric_problems
from idl_cli.config.schemas.root import Component, RunSettings


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What is converted; a base, since the fields of later bases stand first."""

    teacher: Annotated[Component, Section("teacher")] | None = None
    dataset: Annotated[Component, Section("dataset")] | None = None
    onnx: Annotated[str, Existing("file")] | None = None
    kappa: Annotated[float, PROPER_FRACTION] | None = None
    dtype: Literal["float32", "float64"] | None = None
    batch_size: Annotated[int, AT_LEAST_ONE] = 64


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(RunSettings, _Source):
    """Turn a feed-forward network into an exact, sparse implicit model and compare."""

    def problems(self) -> Iterator[str]:
        """There is one network, and inputs of a known shape."""
        if (self.teacher is None) == (self.onnx is None):
            yield (
                "teacher, onnx: give one of them, as teacher=run teacher.run=DIR, teacher=cnn "
                "teacher.file=FILE, or onnx=FILE"
            )
        elif self.teacher is not None and self.teacher["name"] != "run" and self.dataset is None:
            yield (
                f"dataset: needed beside teacher={self.teacher['name']}, for the shape of its "
                "inputs; give dataset=OPTION"
            )
        if self.teacher is not None and self.teacher["states"] is not None:
            yield "teacher.states: `idl convert` keeps all states; that is a key of `idl sim`"
        yield from metric_problems("convert", self.optimized_metric, self.dataset)
