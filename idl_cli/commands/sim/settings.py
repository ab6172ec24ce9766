"""The root keys of ``idl sim``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from idl_cli.config.fields import Section
from idl_cli.config.metric_names import SIM, metric_problems
from idl_cli.config.schemas.root import Component, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class _Components:
    """The config groups; a base, since the fields of later bases stand first."""

    dataset: Annotated[Component, Section("dataset")]
    teacher: Annotated[Component, Section("teacher")]
    trainer: Annotated[Component, Section("trainer")]
    solver: Annotated[Component, Section("solver")]
    logger: Annotated[Component, Section("logger")]


@dataclass(frozen=True, kw_only=True)
class SimSettings(TrainingSettings, _Components):
    """Train an implicit model from a teacher's states by convex optimisation."""

    def problems(self) -> Iterator[str]:
        """The metric is one that such a run has."""
        yield from metric_problems("sim", self.optimized_metric, self.dataset, SIM)
