"""Trackio: a run in its local store, the dashboard of which needs no account and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from idl_cli.errors import MissingExtraError
from idl_cli.loggers.base import MetricLogger, RunFacts, numbers_in, step_of
from idl_cli.loggers.options import TrackioOptions
from idl_cli.run import RunDirectory
from idl_cli.run.records import Status


class TrackioLogger(MetricLogger):
    """A Trackio run: metrics and configuration, in the folder that ``TRACKIO_DIR`` names.

    Args:
        run_directory: of the run.
        project: the project it belongs to.
        group: runs shown together, such as a sweep's.

    Raises:
        MissingExtraError: Trackio is not installed.
    """

    def __init__(
        self,
        *,
        run_directory: RunDirectory,
        project: str = TrackioOptions.project,
        group: str | None = None,
    ) -> None:
        try:
            self._library: Any = import_module("trackio")
        except ImportError as error:
            raise MissingExtraError(
                "logger=trackio needs Trackio: pip install 'idl-cli[trackio]'"
            ) from error
        self._name = "/".join(run_directory.path.resolve().parts[-3:])
        self._project = project
        self._group = group
        self._run: Any = None
        self._last_step = 0

    def start(self, facts: RunFacts) -> None:
        """Open the run, the same one as before where one is resumed."""
        with redirect_stdout(StringIO()):  # it greets on standard output
            self._run = self._library.init(
                project=self._project,
                name=self._name,
                group=self._group,
                config={"command": facts.command, **_plain(facts.hyperparameters)},
                resume="never" if facts.resumed_step is None else "allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, row: Mapping[str, object]) -> None:
        """Log a row's numbers as ``split/name`` at its step."""
        self._last_step = step_of(row)
        self._run.log(numbers_in(row), step=self._last_step)

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Log the final figures as ``final/name``."""
        final = {f"final/{name}": value for name, value in metrics.items()}
        self._run.log(final, step=self._last_step)

    def close(self, status: Status) -> None:
        """End the run once everything is in the store."""
        if self._run is not None:
            with redirect_stdout(StringIO()):
                self._run.finish()


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    simple = (int, float, str, bool, type(None))
    return {key: each if isinstance(each, simple) else str(each) for key, each in values.items()}
