"""Several loggers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from idl_cli import registry
from idl_cli.loggers.base import MetricLogger
from idl_cli.loggers.options import SeveralOptions
from idl_cli.run import RunDirectory


class SeveralLoggers:
    """The loggers chosen; the run's logger tells each of them the same.

    Attributes:
        loggers: by name.

    Args:
        run_directory: of the run.
        loggers: which ones, by name.
        tensorboard: the keys of ``logger=tensorboard``, used where it is among ``loggers``.
        wandb: those of ``logger=wandb``.
        mlflow: those of ``logger=mlflow``.
        trackio: those of ``logger=trackio``.

    Raises:
        MissingExtraError: the library of one of them is not installed.
    """

    def __init__(
        self,
        *,
        run_directory: RunDirectory,
        loggers: Sequence[str] = SeveralOptions.loggers,
        tensorboard: Mapping[str, Any] | None = None,
        wandb: Mapping[str, Any] | None = None,
        mlflow: Mapping[str, Any] | None = None,
        trackio: Mapping[str, Any] | None = None,
    ) -> None:
        sections = {
            "tensorboard": tensorboard,
            "wandb": wandb,
            "mlflow": mlflow,
            "trackio": trackio,
        }
        self.loggers: dict[str, MetricLogger] = {
            name: registry.build(
                "logger", {**(sections[name] or {}), "name": name}, run_directory=run_directory
            )
            for name in loggers
        }
