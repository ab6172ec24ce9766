"""MLflow: a run in a tracking store, by default a local SQLite file."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

from idl_cli.errors import MissingExtraError
from idl_cli.loggers.base import MetricLogger, RunFacts, numbers_in, step_of
from idl_cli.loggers.memory import forget_unless_resumed, remember
from idl_cli.loggers.options import MlflowOptions
from idl_cli.masking import masked
from idl_cli.run import RunDirectory
from idl_cli.run.lock import one_at_a_time
from idl_cli.run.records import Status

_SQLITE: Final = "sqlite:///"
_PARAMETERS_A_CALL: Final = 100  # what MLflow takes at once
_LONGEST_VALUE: Final = 500  # characters of a parameter that every version of MLflow takes
_ENDED: Final[Mapping[Status, str]] = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


class MLflowLogger(MetricLogger):
    """An MLflow run: metrics, parameters, figures as artifacts.

    It goes through a client of its own, so that jobs in one process cannot mistake each other's run
    for theirs.

    Args:
        run_directory: of the run.
        experiment: the experiment it belongs to; made where there is none.
        tracking_uri: where runs are kept, such as ``sqlite:///DIR/mlflow.db`` or a server's
            address. None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the working
            directory, so that the runs made from there are seen together. Figures are kept in
            ``mlruns`` beside such a file.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(
        self,
        *,
        run_directory: RunDirectory,
        experiment: str = MlflowOptions.experiment,
        tracking_uri: str | None = MlflowOptions.tracking_uri,
    ) -> None:
        # MLflow reports its own use over the network unless it is told not to before it is loaded.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            self._library: Any = import_module("mlflow.tracking")
            self._entities: Any = import_module("mlflow.entities")
            self._failure: Any = import_module("mlflow.exceptions").MlflowException
        except ImportError as error:
            raise MissingExtraError(
                "logger=mlflow needs MLflow: pip install 'idl-cli[mlflow]'"
            ) from error
        for noisy in ("mlflow", "alembic"):  # they announce every table of a new store
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._directory = run_directory
        self._experiment = experiment
        default = f"{_SQLITE}{Path('mlflow.db').resolve()}"
        self._uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
        self._client: Any = None
        self._run = ""

    def start(self, facts: RunFacts) -> None:
        """Open the run, the same one as before where one is resumed from the same store."""
        # Jobs that start at once would make the tables of a new file, and the experiment, twice.
        with _alone(self._uri):
            self._client = self._library.MlflowClient(tracking_uri=self._uri)
            experiment = self._experiment_id()
        known = forget_unless_resumed(self._directory, "mlflow", facts)
        if masked(known.get("tracking_uri")) == masked(self._uri):
            self._run = str(known["run_id"])
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"command": facts.command, "directory": str(self._directory.path.resolve())}
            made = self._client.create_run(experiment, run_name=facts.name, tags=tags)
            self._run = made.info.run_id
            remember(self._directory, "mlflow", {"run_id": self._run, "tracking_uri": self._uri})
        self._log_parameters(facts.hyperparameters)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                made = self._client.create_experiment(
                    self._experiment, artifact_location=_artifacts_of(self._uri)
                )
                return str(made)
            except self._failure:
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:  # nor has another run made it on the server meanwhile
                    raise
        return str(found.experiment_id)

    def _log_parameters(self, values: Mapping[str, object]) -> None:
        # A parameter cannot be changed: what a resumed run does otherwise is not recorded here.
        kept = self._client.get_run(self._run).data.params
        new = (
            self._entities.Param(_named(key), str(value)[:_LONGEST_VALUE])
            for key, value in values.items()
            if _named(key) not in kept
        )
        while batch := list(islice(new, _PARAMETERS_A_CALL)):
            self._client.log_batch(self._run, params=batch)

    def log(self, row: Mapping[str, object]) -> None:
        """Log a row's numbers as ``split/name`` at its step."""
        self._log_metrics(numbers_in(row), step_of(row))

    def _log_metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = list(self._metrics(values, now, step))
        if metrics:
            self._client.log_batch(self._run, metrics=metrics)

    def _metrics(self, values: Mapping[str, float], now: int, step: int) -> Iterator[Any]:
        for name, value in values.items():
            yield self._entities.Metric(_named(name), value, now, step)

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Log the final figures, and the PNG files as artifacts."""
        self._log_metrics(metrics, 0)
        for path in figures:
            self._client.log_artifact(self._run, str(path), "figures")

    def close(self, status: Status) -> None:
        """End the run with the status it had."""
        if self._run:
            self._client.set_terminated(self._run, _ENDED[status])


def _artifacts_of(uri: str) -> str | None:
    """Where figures of a store in a file belong: beside it, wherever a run was started from."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).resolve().parent / "mlruns").as_uri()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other runs out of a store that is a local file; a server sees to that itself."""
    directory = Path(uri.removeprefix(_SQLITE)).parent
    if not uri.startswith(_SQLITE) or not directory.is_dir():
        yield
        return
    with one_at_a_time(directory):
        yield


def _named(name: str) -> str:
    """The name with what MLflow does not take in one replaced."""
    return re.sub(r"[^\w\-./ ]", "_", name)
