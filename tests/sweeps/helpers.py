"""What tests of whole sweeps share: small requests, and how a sweep is read and watched."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.forking import Command

Start = Callable[..., Command]
OF_SMALL_FITS = pytest.mark.filterwarnings(  # least squares ignores λ, projected_gd is not exact
    "default::idl_cli.errors.IgnoredOptionWarning",
    "default::idl_cli.errors.ConvergenceWarning",
    "default::idl_cli.errors.PoorFitWarning",  # of λ chosen to give few weights
    # Of the SQLAlchemy that Hydra's Optuna needs, at whichever test imports it first.
    "ignore:Deprecated API features detected:DeprecationWarning",
)
SMALL = (
    "teacher.hidden_dims=[12,8]",
    "dataset.train_samples=200",
    "dataset.test_samples=60",
    "report=false",
    "threads=1",
)
LITTLE = (
    "model.hidden_dim=8",
    "dataset.train_samples=100",
    "dataset.test_samples=40",
    "trainer.batch_size=50",
    "report=false",
    "threads=1",
)


def table_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(sweep: Path) -> list[str]:
    return [row["status"] for row in table_of(sweep)]


def wait_for(condition: Callable[[], bool], process: Command) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never came that far"
        time.sleep(0.02)


@contextmanager
def untouched(*jobs: Path) -> Iterator[None]:
    """Assert that nothing in these jobs' directories is written meanwhile."""

    def written() -> dict[Path, int]:
        return {
            file: file.stat().st_mtime_ns
            for job in jobs
            for file in job.rglob("*")
            if file.is_file()
        }

    before = written()
    assert before
    yield
    assert written() == before
