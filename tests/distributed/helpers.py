"""Processes counted before and after, and waited for with a deadline."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil

from tests.forking import Command

Started = TypeVar("Started", "subprocess.Popen[Any]", Command)
LIMIT = 30.0  # seconds in which every process must have ended, whatever went wrong


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """A process's descendants, but for multiprocessing's own tracker, which ends with it."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if "resource_tracker" not in command:
            found.append(child)
    return found


def wait_until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Look again and again until something holds; fail after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def ending(process: Started) -> Iterator[Started]:
    """As ``with process``, but killed after an error: of itself it may never end."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def all_ended(processes: Sequence[psutil.Process]) -> bool:
    return not any(_lives(process) for process in processes)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Assert that no process and no file in shared memory is there that was not before."""
    before, memory = set(descendants()), _shared_memory()
    yield
    assert set(descendants()) <= before
    assert _shared_memory() <= memory


def _shared_memory() -> set[str]:
    """What torch and the libraries under it may have put into shared memory."""
    ours = ("torch", "nccl", "gloo", "psm")  # others on this machine come and go
    return {name for name in os.listdir("/dev/shm") if name.startswith(ours)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
