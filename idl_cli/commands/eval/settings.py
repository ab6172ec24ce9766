"""The root keys of ``idl eval``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE, POSITIVE, Existing, Section
from idl_cli.config.metric_names import metric_problems
from idl_cli.config.schemas.root import Component, RunSettings


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What is measured; a base, since the fields of later bases stand first."""

    run: Annotated[str, Existing("directory")]
    checkpoint: Literal["model", "last", "best"] = "model"
    dataset: Annotated[Component, Section("dataset")] | None = None
    shifts: tuple[Annotated[float, POSITIVE], ...] | None = None
    batch_size: Annotated[int, AT_LEAST_ONE] | None = None


@dataclass(frozen=True, kw_only=True)
class EvalSettings(RunSettings, _Measured):
    """Evaluate the model of a finished run, on its own data or another data set."""

    def problems(self) -> Iterator[str]:
        """A run is a directory's path, never an empty text; the metric is one it can have."""
        if not self.run:
            yield "run=: must be the directory of a run, such as run=outputs/train/<date>_<time>"
        yield from metric_problems("eval", self.optimized_metric, self.dataset)
