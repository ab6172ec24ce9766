"""Where a run's figures go besides its ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from idl_cli.config.fields import AT_LEAST_ONE, Extra, Pattern

_NAMED: Final = Pattern(r".*\S.*", "a name")


@dataclass(frozen=True)
class Jsonl:
    """One JSON object a line in the run's metrics.jsonl, and nothing else."""

    name: Literal["jsonl"] = "jsonl"


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard event files in the run directory."""

    name: Literal["tensorboard"] = "tensorboard"
    flush_seconds: Annotated[int, AT_LEAST_ONE] = 30

    @staticmethod
    def extras(_: Mapping[str, Any]) -> Iterator[Extra]:
        """The library it needs."""
        yield Extra("tensorboard", "tensorboard", "TensorBoard")


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases; offline, in the run directory, unless asked."""

    name: Literal["wandb"] = "wandb"
    project: Annotated[str, _NAMED] = "idl"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["offline", "online", "disabled"] | None = None

    @staticmethod
    def extras(_: Mapping[str, Any]) -> Iterator[Extra]:
        """The library it needs."""
        yield Extra("wandb", "wandb", "Weights & Biases")


@dataclass(frozen=True)
class MLflow:
    """MLflow; a local SQLite file unless a server is named."""

    name: Literal["mlflow"] = "mlflow"
    experiment: Annotated[str, _NAMED] = "idl"
    tracking_uri: str | None = None

    @staticmethod
    def extras(_: Mapping[str, Any]) -> Iterator[Extra]:
        """The library it needs."""
        yield Extra("mlflow", "mlflow", "MLflow")


@dataclass(frozen=True)
class Trackio:
    """Trackio; a local store with a dashboard, no account."""

    name: Literal["trackio"] = "trackio"
    project: Annotated[str, _NAMED] = "idl"
    group: str | None = None

    @staticmethod
    def extras(_: Mapping[str, Any]) -> Iterator[Extra]:
        """The library it needs."""
        yield Extra("trackio", "trackio", "Trackio")


_SERVICES: Final[Mapping[str, type]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}


@dataclass(frozen=True)
class Several:
    """Several of the others at once."""

    name: Literal["several"] = "several"
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ("tensorboard",)
    tensorboard: TensorBoard = field(default_factory=TensorBoard)
    wandb: Wandb = field(default_factory=Wandb)
    mlflow: MLflow = field(default_factory=MLflow)
    trackio: Trackio = field(default_factory=Trackio)

    @staticmethod
    def extras(section: Mapping[str, Any]) -> Iterator[Extra]:
        """The libraries of the loggers chosen."""
        for chosen in section["loggers"]:
            yield from _SERVICES[chosen].extras(section[chosen])  # type: ignore[attr-defined]

    def problems(self) -> Iterator[str]:
        """No logger at all is another option; one listed twice would record everything twice."""
        if not self.loggers:
            yield (
                f"logger.loggers=[]: names no logger; list some of {', '.join(_SERVICES)}, or take "
                "logger=jsonl, which is metrics.jsonl alone"
            )
        twice = sorted({name for name in self.loggers if self.loggers.count(name) > 1})
        if twice:
            yield f"logger.loggers: names {', '.join(twice)} more than once"
