"""The root keys of ``idl train``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from idl_cli.config.fields import Section
from idl_cli.config.metric_names import metric_problems
from idl_cli.config.schemas.root import Component, TrainingSettings
from idl_cli.training.robust.settings import ROBUST_FIGURES


@dataclass(frozen=True, kw_only=True)
class _Components:
    """The config groups; a base, since the fields of later bases stand first."""

    model: Annotated[Component, Section("model")]
    dataset: Annotated[Component, Section("dataset")]
    trainer: Annotated[Component, Section("trainer")]
    optimizer: Annotated[Component, Section("optimizer")]
    scheduler: Annotated[Component, Section("scheduler")]
    logger: Annotated[Component, Section("logger")]


@dataclass(frozen=True, kw_only=True)
class TrainSettings(TrainingSettings, _Components):
    """Train a model by gradient descent."""

    def problems(self) -> Iterator[str]:
        """The metric is one that such a run has."""
        own = self.robust_figures()
        yield from metric_problems("train", self.optimized_metric, self.dataset, own)

    def robust_figures(self) -> tuple[str, ...]:
        """The figures of a robust training, beside those of every one."""
        figure = ROBUST_FIGURES.get(self.trainer["robust"])
        return () if figure is None else (f"validation_{figure}", f"test_{figure}")
