"""What tests of several rooms share."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from idl_cli.cli import main
from idl_cli.errors import (
    ConvergenceWarning,
    IgnoredOptionWarning,
    PoorFitWarning,
    WellPosednessWarning,
)

if TYPE_CHECKING:
    from tests.training.ranks import Ranks

from tests.coarse_figures import coarse_figures
from tests.forking import completed

TOLD = (ConvergenceWarning, IgnoredOptionWarning, PoorFitWarning, WellPosednessWarning)
Idl = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Done:
    """How a command ended: exit status, what it printed."""

    status: int
    output: str
    errors: str


IdlHere = Callable[..., Done]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Have collections of garbage pass over what is imported for good."""
    gc.freeze()


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means at a terminal, though a shell may start tests without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def idl(tmp_path: Path) -> Idl:
    """The command line as a process: ``idl(*arguments, **environment)``, in an empty directory."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return completed(arguments, tmp_path, {"COLUMNS": "100", **environment})

    return run


@pytest.fixture
def idl_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[IdlHere]:
    """``idl_here(*arguments)``: the command in an empty directory, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    root = logging.getLogger()
    handlers, level, threads = list(root.handlers), root.level, torch.get_num_threads()

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        with warnings.catch_warnings(), coarse_figures():
            # What a user is told in a warning is an error in tests of functions alone.
            for category in TOLD:
                warnings.simplefilter("always", category)
            try:
                status = main(arguments)
            except SystemExit as ending:  # how Hydra's flags refuse a word
                status = int(ending.code or 0)
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    yield run
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Up to three processes that can meet in a group."""
    from tests.training.ranks import shared_ranks

    yield shared_ranks()
    shared_ranks().close()
