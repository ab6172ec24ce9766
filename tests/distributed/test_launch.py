"""Ranks on this machine: started, watched over, and ended together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import psutil
import pytest

from idl_cli.distributed.launch import launch
from tests.distributed import workers
from tests.distributed.workers import Fault

LIMIT = 30.0  # seconds in which every process must have ended, whatever went wrong


def _children() -> set[int]:
    """This process's descendants, but for multiprocessing's own tracker, which stays for good."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in " ".join(child.cmdline())
    }


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before, memory = _children(), set(os.listdir("/dev/shm"))
    yield
    assert _children() <= before
    assert set(os.listdir("/dev/shm")) <= memory


def test_every_collective_on_three_ranks() -> None:
    outcome = launch(workers.collectives, [5, 5, 5], threads=1)
    assert outcome.cause is None
    found = outcome.result
    assert found["sum"] == [[0.1 + 1.1 + 2.1] * 2] * 3
    assert found["sent"] == [7.0] * 3
    assert [len(found["rows"]), found["rows"][0], found["rows"][-1]] == [
        6,
        [[2, 3], [4, 5]],
        [[16, 17], [18, 19]],
    ]
    assert found["objects"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
    assert found["object"] == "from 1"
    assert (found["group"].rank, found["group"].size, found["group"].backend) == (0, 3, "gloo")
    assert found["current"] == found["group"]
    assert found["threads"] == 1
    assert found["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("killed", "rank 1 was killed by SIGKILL; the system does that when memory runs out"),
        ("raises", "rank 1 failed: ZeroDivisionError: the seventh block is empty"),
        ("foreseen", "rank 1 failed: the loss became NaN at step 3"),
        ("memory", "rank 1 failed: out of memory (cannot allocate 80 GiB)"),
        ("gpu_memory", "rank 1 failed: out of memory (CUDA out of memory. Tried to alloc"),
        ("exits", "rank 1 ended with status 7, and did not say why"),
    ],
)
def test_one_rank_that_fails_ends_all_and_is_named(kind: str, sentence: str) -> None:
    started = time.monotonic()
    outcome = launch(workers.with_fault, [Fault(1, kind)] * 3, threads=1)
    assert time.monotonic() - started < LIMIT
    assert outcome.result is None
    assert outcome.cause is not None
    assert outcome.cause.sentence.startswith(sentence)
    assert bool(outcome.cause.traceback) == (kind == "raises")
