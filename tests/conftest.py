"""What tests of several rooms share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.conftest import idl_here as idl_here

if TYPE_CHECKING:
    from tests.training.ranks import Ranks

Idl = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means at a terminal, though a shell may start tests without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def idl(tmp_path: Path) -> Idl:
    """The command line as a process: ``idl(*arguments, **environment)``, in an empty directory."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "idl_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Up to three processes that can meet in a group."""
    from tests.training.ranks import Ranks

    made = Ranks(3)
    yield made
    made.close()
