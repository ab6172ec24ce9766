"""What every service is told, in which order, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from idl_cli.errors import RunError
from idl_cli.loggers import MetricLogger, RunFacts, RunLogger, open_logger
from idl_cli.loggers.run_logger import flattened
from idl_cli.run import RunDirectory, read_metrics

ROW = {"step": 3, "epoch": 1, "split": "train", "loss": 0.5, "lr": None}


class Listening(MetricLogger):
    """Writes down what it is told; fails where it is asked to."""

    def __init__(self, failing: str | None = None) -> None:
        self.heard: list[tuple[object, ...]] = []
        self._failing = failing

    def _hear(self, what: str, *told: object) -> None:
        if what == self._failing:
            raise OSError(f"no room to {what}\nand more")
        self.heard.append((what, *told))

    def start(self, facts: RunFacts) -> None:
        self._hear("start", facts)

    def log(self, row: Mapping[str, object]) -> None:
        self._hear("log", row)

    def finish(self, metrics: Mapping[str, float], figures: Sequence[Path]) -> None:
        self._hear("finish", metrics, [each.name for each in figures])

    def close(self, status: str) -> None:
        self._hear("close", status)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run", command="train", seed=0)


def test_rows_are_written_down_and_passed_on(directory: RunDirectory) -> None:
    service = Listening()
    logger = RunLogger(directory, {"mine": service})
    logger.log(ROW)
    (directory.path / "curves.png").write_bytes(b"")
    logger.finish({"test_accuracy": 0.9, "sim": {"ab": {"status": "optimal", "iterations": 7}}})
    logger.close("completed")
    logger.close("completed")
    assert read_metrics(directory.path) == [ROW]
    assert service.heard == [
        ("log", ROW),
        ("finish", {"test_accuracy": 0.9, "sim.ab.iterations": 7.0}, ["curves.png"]),
        ("close", "completed"),
    ]


def test_a_service_that_fails_costs_the_run_nothing_but_itself(directory: RunDirectory) -> None:
    broken, sound = Listening(failing="log"), Listening()
    logger = RunLogger(directory, {"broken": broken, "sound": sound})
    with pytest.warns(UserWarning, match=r"logger=broken: no room to log; .*metrics\.jsonl"):
        logger.log(ROW)
    logger.log(ROW)
    logger.close("completed")
    assert read_metrics(directory.path) == [ROW, ROW]
    assert broken.heard == [("close", "completed")]
    assert [each[0] for each in sound.heard] == ["log", "log", "close"]


def test_a_service_that_cannot_start_ends_the_run(directory: RunDirectory) -> None:
    with pytest.raises(RunError, match="logger=mine: cannot be started: no room to start;"):
        RunLogger(directory, {"mine": Listening(failing="start")}).start(RunFacts("x", "y", {}))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_closed_with_the_status_of_the_run(
    directory: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    status: str,
) -> None:
    service = Listening()
    monkeypatch.setattr("idl_cli.registry.build", lambda *_, **__: service)

    def fail() -> None:
        raise error

    with pytest.raises(error), open_logger({"logger": {"name": "mine"}}, directory):
        fail()
    assert service.heard[-1] == ("close", status)


def test_settings_are_flattened() -> None:
    nested = {"model": {"kappa": 0.9, "forward": {"tol": 1e-5}}, "tags": [1], "empty": {}}
    expected = {"model.kappa": 0.9, "model.forward.tol": 1e-5, "tags": [1], "empty": {}}
    assert flattened(nested) == expected
