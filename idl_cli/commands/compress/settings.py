"""The root keys of ``idl compress``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE, FINITE_NON_NEGATIVE, Existing, Section
from idl_cli.config.metric_names import metric_problems
from idl_cli.config.schemas.root import Component, RunSettings


@dataclass(frozen=True, kw_only=True)
class _Compressed:
    """What is made smaller, and how; a base, since the fields of later bases stand first."""

    run: Annotated[str, Existing("directory")]
    dataset: Annotated[Component, Section("dataset")] | None = None
    tolerance: Annotated[float, FINITE_NON_NEGATIVE] = 0.01
    rank: Annotated[int, AT_LEAST_ONE] | None = None
    quantize: Literal["none", "int8"] = "none"
    batch_size: Annotated[int, AT_LEAST_ONE] = 64


@dataclass(frozen=True, kw_only=True)
class CompressSettings(RunSettings, _Compressed):
    """Make the implicit model of a run smaller, exactly or with a proven bound."""

    def problems(self) -> Iterator[str]:
        """A run is a directory's path, never an empty text; the metric is one it can have."""
        if not self.run:
            yield "run=: must be the directory of a run, such as run=outputs/train/<date>_<time>"
        yield from metric_problems("compress", self.optimized_metric, self.dataset)
