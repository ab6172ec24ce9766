"""The keys that the root configurations of several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from idl_cli.config.fields import (
    EARLIER,
    MACHINE,
    PLACE,
    POSITIVE,
    PROCESS_COUNT,
    PROCESSES,
    RECORD,
    SEED,
    Existing,
    Pattern,
)

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
class RunSettings:
    """The keys of every command that leaves a run."""

    seed: Annotated[int, SEED] = 0
    device: Device = field(default="auto", metadata=MACHINE)
    threads: Annotated[int, PROCESS_COUNT] | None = field(default=None, metadata=MACHINE)
    optimized_metric: str | None = field(default=None, metadata=RECORD)
    report: bool = field(default=True, metadata=RECORD)
    sweep: SweepSettings = field(default=SweepSettings(), metadata=EARLIER)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """The keys of every command that trains, on one process or several, and can be resumed."""

    dtype: Literal["float32", "float64"] = "float32"
    deterministic: bool = field(default=False, metadata=PROCESSES)
    join_timeout: Annotated[float, POSITIVE] = field(default=300.0, metadata=PLACE)
    profile: bool = field(default=False, metadata=RECORD)
    resume: Annotated[str, Existing("directory", unless="auto")] | None = field(
        default=None, metadata=EARLIER
    )
