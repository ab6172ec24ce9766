"""Weights & Biases, offline unless asked: a record inside the run directory that can be synced."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from idl_cli.errors import MissingExtraError
from idl_cli.loggers.base import MetricLogger, RunFacts, numbers_in, step_of
from idl_cli.loggers.memory import forget_unless_resumed, remember
from idl_cli.loggers.options import WandbOptions
from idl_cli.masking import masked
from idl_cli.run import RunDirectory
from idl_cli.run.records import Status

Mode = Literal["offline", "online", "disabled"]


class WandbLogger(MetricLogger):
    """A Weights & Biases run: metrics, configuration, figures.

    Args:
        run_directory: of the run; the record is kept in its ``wandb/``.
        project: the project it belongs to.
        entity: the user or team; None for the account's own.
        group: runs shown together, such as a sweep's.
        tags: of the run.
        mode: ``offline`` keeps everything in the run directory (``wandb sync`` sends it later),
            ``online`` sends it as it arises. None takes ``WANDB_MODE``, and is offline without it:
            a run never waits for a network it was not told of.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(
        self,
        *,
        run_directory: RunDirectory,
        project: str = WandbOptions.project,
        entity: str | None = WandbOptions.entity,
        group: str | None = WandbOptions.group,
        tags: Sequence[str] = WandbOptions.tags,
        mode: Mode | None = WandbOptions.mode,
    ) -> None:
        try:
            self._library: Any = import_module("wandb")
        except ImportError as error:
            raise MissingExtraError(
                "logger=wandb needs Weights & Biases: pip install 'idl-cli[wandb]'"
            ) from error
        self._directory = run_directory
        self._about = {"project": project, "entity": entity, "group": group, "tags": list(tags)}
        self._mode = mode or os.environ.get("WANDB_MODE") or "offline"
        self._run: Any = None

    def start(self, facts: RunFacts) -> None:
        """Open the run, the same one as before where one is resumed."""
        known = forget_unless_resumed(self._directory, "wandb", facts)
        identity = known.get("id") or secrets.token_hex(4)
        with _arguments_masked():
            self._run = self._library.init(
                **self._about,
                id=identity,
                name=facts.name,
                job_type=facts.command,
                config=dict(facts.hyperparameters),
                dir=str(self._directory.path),
                mode=self._mode,
                resume="allow" if known and self._mode == "online" else None,
                settings=self._library.Settings(console="off", silent=True),
            )
        remember(self._directory, "wandb", {"id": identity})
        # Every split counts its own steps: in `idl sim` those of the second problem start again.
        for split in ("train", "validation", "test", "ab", "cd"):
            self._run.define_metric(f"{split}/*", step_metric=f"{split}/step")

    def log(self, row: Mapping[str, object]) -> None:
        """Log a row's numbers as ``split/name``, its step beside them."""
        self._run.log({**numbers_in(row), f"{row.get('split', 'run')}/step": step_of(row)})

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Put the final figures into the run's summary."""
        self._run.summary.update(dict(metrics))
        images = {f"figures/{path.stem}": self._library.Image(str(path)) for path in figures}
        if images:
            self._run.log(images)

    def close(self, status: Status) -> None:
        """End the run, as failed where it did."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "completed" else 1)


@contextmanager
def _arguments_masked() -> Iterator[None]:
    """Have the library, which records the command line, see it without passwords and tokens."""
    before = sys.argv
    sys.argv = masked(before)
    try:
        yield
    finally:
        sys.argv = before
