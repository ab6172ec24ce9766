"""A teacher for all sweeps, solvers that misbehave, and commands that a test may kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from idl_cli.cli import main
from tests.forking import Command
from tests.sweeps import flaky
from tests.sweeps.helpers import SMALL, Start

ROOT = Path(__file__).resolve().parents[2]
TRAINED = (*SMALL, "teacher.epochs=8", "teacher.batch_size=32", "teacher.lr=1e-2")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher all sweeps here take, so that none trains its own."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    assert main(["sim", *TRAINED, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture
def flaky_solvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers that misbehave, here and in every process started from here."""
    site = tmp_path / "site"
    flaky.install(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*arguments)``: the command as a process that the test may kill."""
    started: list[Command] = []

    def run(*arguments: str, session: bool = False, deaf: bool = False) -> Command:
        process = Command(arguments, tmp_path, merged=True, session=session, deaf=deaf)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
