"""What a logger is told of a run; each service says what it does with it.

A run's rows stand in its ``metrics.jsonl`` whatever is chosen: what the config group ``logger``
makes gets them besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from idl_cli.run import RunDirectory
from idl_cli.run.records import Status


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before its first row.

    Attributes:
        command: the sub-command, such as ``train``.
        name: what to call the run: the last two names of its directory.
        hyperparameters: every key of the configuration, dotted, with its value.
        resumed_step: the step that is continued from; None for a run that starts anew.
    """

    command: str
    name: str
    hyperparameters: Mapping[str, object]
    resumed_step: int | None = None


class MetricLogger:
    """Takes a run's figures somewhere; what it is not interested in it leaves as it is here.

    The calls come in this order: ``start``, ``log`` as rows arise, ``finish`` unless the run failed
    or was interrupted, ``close`` in any case. An error in ``start`` ends the run before any work; a
    later one costs this logger, and the run goes on without it.
    """

    def start(self, facts: RunFacts) -> None:
        """Open a record of the run and keep its hyper-parameters."""

    def log(self, row: Mapping[str, object]) -> None:
        """Keep one row; its keys are those of ``metrics.jsonl``."""

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Keep the final figures.

        Args:
            metrics: all numbers of the summary's ``metrics`` and ``sim``.
            figures: the PNG files of the run.
        """

    def close(self, status: Status) -> None:
        """Write what is still held back, and how the run ended; called once."""


class JsonlLogger(MetricLogger):
    """Nothing besides ``metrics.jsonl``.

    Args:
        run_directory: of the run.
    """

    def __init__(self, *, run_directory: RunDirectory) -> None:
        self.run_directory = run_directory


def numbers_in(row: Mapping[str, object]) -> dict[str, float]:
    """A row's figures as ``split/name``; step, epoch and whatever is no number are left out."""
    split = row.get("split", "run")
    return {
        f"{split}/{name}": float(value)
        for name, value in row.items()
        if name not in ("step", "epoch")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def step_of(row: Mapping[str, object]) -> int:
    """The step a row belongs to; 0 where it has none."""
    step = row.get("step")
    return step if isinstance(step, int) else 0
