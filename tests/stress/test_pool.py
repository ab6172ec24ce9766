"""Calls that do not come back are counted, and those behind them answered."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.stress import pool


def _misbehave() -> Callable[[str], str]:
    taken: list[bytes] = []

    def call(how: str) -> str:
        if how == "wait":
            time.sleep(600)
        if how == "take":
            taken.append(b"x" * (3 << 25))
        if how == "die":
            signal.raise_signal(signal.SIGKILL)
        return how

    return call


def test_the_pool_counts_what_does_not_come_back() -> None:
    given = ["a", "take", "die", "wait", "b"]
    found = dict(pool.results(_misbehave, (), given, processes=1, seconds=5.0, growth=1 << 26))
    assert found == {
        "a": "a",
        "take": "memory over bound",
        "die": "died",
        "wait": "time-out",
        "b": "b",
    }
