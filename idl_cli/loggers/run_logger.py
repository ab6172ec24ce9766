"""The one logger that a command talks to: ``metrics.jsonl``, and the service chosen beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from idl_cli import registry
from idl_cli.errors import IdlError, RunError
from idl_cli.loggers.base import MetricLogger, RunFacts
from idl_cli.loggers.several import SeveralLoggers
from idl_cli.masking import masked
from idl_cli.run import RunDirectory
from idl_cli.run.records import Status


class RunLogger:
    """Writes a run's rows down and passes them on.

    A service that fails on the way (a full disk, a lost connection) is told nothing more: the run
    goes on with ``metrics.jsonl``, which has everything.

    Args:
        run_directory: of the run; None in a process whose rows another one keeps.
        services: what the config group ``logger`` made, by the names of its options.
    """

    def __init__(
        self, run_directory: RunDirectory | None, services: Mapping[str, MetricLogger]
    ) -> None:
        self._run_directory = run_directory
        self._services = dict(services)
        self._broken: set[str] = set()

    def start(self, facts: RunFacts) -> None:
        """Open the services' records.

        Raises:
            RunError: a service cannot be used as it is set up.
        """
        for name, service in self._services.items():
            try:
                with _without_its_warnings():
                    service.start(facts)
            except IdlError:
                raise
            except Exception as error:
                raise RunError(
                    f"logger={name}: cannot be started: {_first_line(error)}; "
                    "logger=jsonl does without it"
                ) from error

    def log(self, row: Mapping[str, object]) -> None:
        """Append a row to ``metrics.jsonl``, and pass it on."""
        if self._run_directory is None:
            return
        self._run_directory.append_metrics(row)
        self._tell(lambda service: service.log(row))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Pass the final figures on.

        Args:
            summary: nested sections; their numbers are kept under dotted names.
        """
        if self._run_directory is None:
            return
        metrics = _numbers(summary)
        figures = sorted(self._run_directory.path.glob("*.png"))
        self._tell(lambda service: service.finish(metrics, figures))

    def close(self, status: Status) -> None:
        """Tell the services how the run ended, also those that broke on the way."""
        self._tell(lambda service: service.close(status))
        for name in self._broken & self._services.keys():
            with suppress(Exception), _without_its_warnings():
                self._services[name].close(status)
        self._services.clear()

    def _tell(self, act: Callable[[MetricLogger], None]) -> None:
        for name, service in self._services.items():
            if name in self._broken:
                continue
            try:
                with _without_its_warnings():
                    act(service)
            except Exception as error:
                self._broken.add(name)
                warnings.warn(
                    f"logger={name}: {_first_line(error)}; from here on this run's figures are in "
                    "metrics.jsonl but not there",
                    stacklevel=3,
                )


@contextmanager
def open_logger(
    settings: Mapping[str, Any],
    run_directory: RunDirectory | None,
    *,
    resumed_step: int | None = None,
) -> Iterator[RunLogger]:
    """Make the run's logger, and close it however the work inside ends.

    Args:
        settings: the whole checked configuration; its section ``logger`` says which.
        run_directory: of the run; None in a process whose rows another one keeps.
        resumed_step: the step that is continued from; None for a run that starts anew.

    Raises:
        MissingExtraError: the service's library is not installed.
        RunError: the service cannot be used as it is set up.
    """
    if run_directory is None:
        yield RunLogger(None, {})
        return
    name = str(settings["logger"]["name"])
    made = registry.build("logger", settings["logger"], run_directory=run_directory)
    services = made.loggers if isinstance(made, SeveralLoggers) else {name: made}
    logger = RunLogger(run_directory, services)
    path = run_directory.path.resolve()
    facts = RunFacts(
        command=run_directory.command,
        name="/".join(path.parts[-2:]),
        hyperparameters=flattened(masked(settings)),
        resumed_step=resumed_step,
    )
    status: Status = "failed"
    try:
        logger.start(facts)
        yield logger
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        logger.close(status)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings under dotted keys; lists stay lists."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in flattened(summary).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@contextmanager
def _without_its_warnings() -> Iterator[None]:
    """Keep the deprecations inside a service's library from the user, who can do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
