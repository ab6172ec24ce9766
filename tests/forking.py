"""Processes forked from one that has torch in memory: importing it takes longer than most tests.

The server that they are forked from only imports what is no part of idl, so it has no threads and
no state that a command could meet; idl itself is imported anew in each of them.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

_IMPORTED = (
    "torch",
    "torch._dynamo",
    "hydra.core.override_parser.overrides_parser",
    "matplotlib.figure",
    "rich.console",
)


def from_server() -> ForkServerContext:
    """A context whose processes are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


class Command:
    """``python -m idl_cli ARGUMENTS`` as a process, with what tests use of ``subprocess.Popen``.

    Args:
        arguments: as typed after ``idl``.
        cwd: its working directory.
        environment: beside that of the tests.
        merged: whether standard error goes where standard output does.
        session: whether it has a session of its own, as a terminal's job has.
        deaf: whether it starts with SIGINT ignored, as in the background of a script.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        *,
        merged: bool = False,
        session: bool = False,
        deaf: bool = False,
    ) -> None:
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(1 if merged else 2)]
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        writing = [pipe for _, pipe in pipes]
        self._process = from_server().Process(
            target=_in_process, args=(arguments, cwd, everything, writing, session, deaf)
        )
        self._process.start()
        self._streams = [
            os.fdopen(os.dup(reading.fileno()), encoding="utf-8") for reading, _ in pipes
        ]
        for end in (end for pipe in pipes for end in pipe):
            end.close()
        self.stdout = self._streams[0]
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("idl", timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it still says on standard output and error, once it has ended."""
        said = ["", ""]

        def listen(number: int, stream: IO[str]) -> None:
            with stream:
                said[number] = stream.read()

        readers = [
            threading.Thread(target=listen, args=each, daemon=True)
            for each in enumerate(self._streams)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("idl", timeout or 0.0)
        self.wait(timeout)
        return said[0], said[1]

    def until(self, beginning: str) -> None:
        """Read on to a line of standard output that begins so, and fail where none comes."""
        if not any(line.startswith(beginning) for line in self.stdout):
            raise AssertionError(f"never said {beginning!r}: {self.communicate()}")

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()
        self.wait()


def _in_process(
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    writing: Sequence[Connection],
    session: bool,
    deaf: bool,
) -> None:
    """What the interpreter does around ``python -m idl_cli``."""
    if session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    for number in (1, 2):
        os.dup2(writing[min(number, len(writing)) - 1].fileno(), number)
    for connection in writing:
        connection.close()
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["idl", *arguments]
    try:
        runpy.run_module("idl_cli", run_name="__main__", alter_sys=True)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def completed(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` does."""
    with Command(arguments, cwd, environment) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), output, errors)
