"""The end of a rank's process: everything is said and cleaned up, no library is torn down."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys

class Library:
    def __del__(self):
        sys.stderr.write("torn down")

library = Library()
atexit.register(lambda: sys.stderr.write("cleaned up "))
sys.argv = ["idl", *{arguments}]
from idl_cli.cli import entry
entry()
"""


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["fly"], 2)])
@pytest.mark.parametrize("ranks", [None, 1])
def test_a_rank_leaves_after_its_exit_functions(
    arguments: list[str], status: int, ranks: int | None
) -> None:
    place = {} if ranks is None else {"RANK": "0", "WORLD_SIZE": str(ranks)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)  # a pipe is flushed too
    assert "cleaned up" in done.stderr
    assert ("torn down" in done.stderr) == (ranks is None)
