"""The keys at the root of each command's configuration, beside the config groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from idl_cli.config.fields import AT_LEAST_ONE, POSITIVE, SEED, Existing, Pattern, Section
from idl_cli.config.metrics import metric_problems

Device: TypeAlias = Annotated[
    str,
    Pattern(r"auto|cpu|cuda(:\d+)?", "one of auto, cpu, cuda, cuda:N", ("auto", "cpu", "cuda")),
]
Component: TypeAlias = Mapping[str, Any]
"""The checked keys of a chosen option, ``name`` among them."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What a sweep continues."""

    resume: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Train a model by gradient descent."""

    model: Annotated[Component, Section("model")]
    dataset: Annotated[Component, Section("dataset")]
    trainer: Annotated[Component, Section("trainer")]
    optimizer: Annotated[Component, Section("optimizer")]
    scheduler: Annotated[Component, Section("scheduler")]
    logger: Annotated[Component, Section("logger")]
    seed: Annotated[int, SEED] = 0
    device: Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    deterministic: bool = False
    threads: Annotated[int, AT_LEAST_ONE] | None = None
    join_timeout: Annotated[float, POSITIVE] = 300.0
    profile: bool = False
    resume: Annotated[str, Existing("directory", unless="auto")] | None = None
    optimized_metric: str | None = None
    report: bool = True
    sweep: SweepSettings = SweepSettings()

    def problems(self) -> Iterator[str]:
        """The metric is one that such a run has."""
        yield from metric_problems("train", self.optimized_metric, self.dataset)


@dataclass(frozen=True, kw_only=True)
class SimSettings:
    """Train an implicit model from a teacher's states by convex optimisation."""

    dataset: Annotated[Component, Section("dataset")]
    teacher: Annotated[Component, Section("teacher")]
    trainer: Annotated[Component, Section("trainer")]
    solver: Annotated[Component, Section("solver")]
    logger: Annotated[Component, Section("logger")]
    seed: Annotated[int, SEED] = 0
    device: Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    deterministic: bool = False
    threads: Annotated[int, AT_LEAST_ONE] | None = None
    join_timeout: Annotated[float, POSITIVE] = 300.0
    profile: bool = False
    resume: Annotated[str, Existing("directory", unless="auto")] | None = None
    optimized_metric: str | None = None
    report: bool = True
    sweep: SweepSettings = SweepSettings()

    def problems(self) -> Iterator[str]:
        """The metric is one that such a run has."""
        yield from metric_problems("sim", self.optimized_metric, self.dataset)


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """Evaluate the model of a finished run, on its own data or another data set."""

    run: Annotated[str, Existing("directory")]
    checkpoint: Literal["model", "last", "best"] = "model"
    dataset: Annotated[Component, Section("dataset")] | None = None
    shifts: tuple[Annotated[float, POSITIVE], ...] | None = None
    batch_size: Annotated[int, AT_LEAST_ONE] | None = None
    device: Device = "auto"
    seed: Annotated[int, SEED] = 0
    threads: Annotated[int, AT_LEAST_ONE] | None = None
    optimized_metric: str | None = None
    report: bool = True
    sweep: SweepSettings = SweepSettings()

    def problems(self) -> Iterator[str]:
        """A run is a directory's path, never an empty text; the metric is one it can have."""
        if not self.run:
            yield "run=: must be the directory of a run, such as run=outputs/train/<date>_<time>"
        yield from metric_problems("eval", self.optimized_metric, self.dataset)
