"""The command line within the test's process, where starting one anew would take the most time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from idl_cli.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended: exit status, what it printed."""

    status: int
    output: str
    errors: str


IdlHere = Callable[..., Done]


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
        status = main(arguments)
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    yield run
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    torch.set_num_threads(threads)
