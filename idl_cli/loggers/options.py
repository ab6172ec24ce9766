"""Where a run's figures go besides its ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from idl_cli.config.fields import AT_LEAST_ONE, Extra, Pattern

_NAMED: Final = Pattern(r".*\S.*", "a name")


@dataclass(frozen=True, kw_only=True)
class JsonlOptions:
    """One JSON object a line in the run's metrics.jsonl, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class _Service:
    extra: ClassVar[Extra]

    @classmethod
    def extras(cls, _: Mapping[str, Any]) -> Iterator[Extra]:
        """The library it needs."""
        yield cls.extra


@dataclass(frozen=True, kw_only=True)
class TensorboardOptions(_Service):
    """TensorBoard event files in the run directory."""

    extra: ClassVar = Extra("tensorboard", "tensorboard", "TensorBoard")

    name: Literal["tensorboard"] = "tensorboard"  # a section of ``several`` says it, too
    flush_seconds: Annotated[int, AT_LEAST_ONE] = 30


@dataclass(frozen=True, kw_only=True)
class WandbOptions(_Service):
    """Weights & Biases; offline, in the run directory, unless asked."""

    extra: ClassVar = Extra("wandb", "wandb", "Weights & Biases")

    name: Literal["wandb"] = "wandb"  # a section of ``several`` says it, too
    project: Annotated[str, _NAMED] = "idl"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["offline", "online", "disabled"] | None = None


@dataclass(frozen=True, kw_only=True)
class MlflowOptions(_Service):
    """MLflow; a local SQLite file unless a server is named."""

    extra: ClassVar = Extra("mlflow", "mlflow", "MLflow")

    name: Literal["mlflow"] = "mlflow"  # a section of ``several`` says it, too
    experiment: Annotated[str, _NAMED] = "idl"
    tracking_uri: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrackioOptions(_Service):
    """Trackio; a local store with a dashboard, no account."""

    extra: ClassVar = Extra("trackio", "trackio", "Trackio")

    name: Literal["trackio"] = "trackio"  # a section of ``several`` says it, too
    project: Annotated[str, _NAMED] = "idl"
    group: str | None = None


_SERVICES: Final[Mapping[str, type[_Service]]] = {
    "tensorboard": TensorboardOptions,
    "wandb": WandbOptions,
    "mlflow": MlflowOptions,
    "trackio": TrackioOptions,
}


@dataclass(frozen=True, kw_only=True)
class SeveralOptions:
    """Several of the others at once."""

    loggers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ("tensorboard",)
    tensorboard: TensorboardOptions = field(default_factory=TensorboardOptions)
    wandb: WandbOptions = field(default_factory=WandbOptions)
    mlflow: MlflowOptions = field(default_factory=MlflowOptions)
    trackio: TrackioOptions = field(default_factory=TrackioOptions)

    @staticmethod
    def extras(section: Mapping[str, Any]) -> Iterator[Extra]:
        """The libraries of the loggers chosen."""
        for chosen in section["loggers"]:
            yield _SERVICES[chosen].extra

    def problems(self) -> Iterator[str]:
        """No logger at all is another option; one listed twice would record everything twice."""
        if not self.loggers:
            yield (
                f"loggers=[]: names no logger; list some of {', '.join(_SERVICES)}, or take "
                "logger=jsonl, which is metrics.jsonl alone"
            )
        twice = sorted({name for name in self.loggers if self.loggers.count(name) > 1})
        if twice:
            yield f"loggers: names {', '.join(twice)} more than once"
