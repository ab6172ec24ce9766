"""Ranks on this machine: started, watched over, and ended together."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from idl_cli.distributed.launch import launch
from tests.distributed import workers
from tests.distributed.helpers import LIMIT, nothing_left_behind


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    with nothing_left_behind():
        yield


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


@pytest.mark.parametrize("ranks", [2, 3])
def test_large_sums_are_the_same_to_the_bit_on_every_rank(ranks: int) -> None:
    outcome = launch(workers.large_sums, [400] * ranks, threads=1)
    assert outcome.cause is None
    own, sums = outcome.result[::2], outcome.result[1::2]
    for index, found in enumerate(sums[0]):
        expected = np.sum([each[index] for each in own], axis=0)
        # Of float32 numbers: two additions.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert all(np.array_equal(each[index], found) for each in sums)


def test_a_rank_killed_before_a_large_sum_is_the_cause() -> None:
    started = time.monotonic()
    outcome = launch(workers.dies_before_a_large_sum, [0, 1], threads=1)
    assert time.monotonic() - started < LIMIT
    assert outcome.cause is not None
    assert outcome.cause.sentence.startswith("rank 1 was killed by SIGKILL")


def test_a_rank_that_raises_is_named_and_one_that_hangs_is_killed() -> None:
    started = time.monotonic()
    outcome = launch(workers.raises_while_another_hangs, [0, 1], threads=1)
    assert time.monotonic() - started < LIMIT
    assert outcome.result is None
    assert outcome.cause is not None
    assert outcome.cause.sentence == "rank 1 failed: ZeroDivisionError: the seventh block is empty"
    assert "raises_while_another_hangs" in outcome.cause.traceback


def test_a_peer_that_never_joins_is_named() -> None:
    outcome = launch(workers.never_joins, [0, 1], threads=1)
    assert outcome.cause is not None
    assert outcome.cause.problems == ("rank 1 of 2 did not join within 1 s (join_timeout)",)


def test_ranks_start_within_a_worker_of_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a worker's own start method is one that the ranks do not know."""
    joblib = pytest.importorskip("joblib.externals.loky.backend.context")
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    monkeypatch.setitem(contexts, "loky", joblib.LokyContext())
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("loky", force=True)
    try:
        outcome = launch(abs, [-3], threads=1)
        assert multiprocessing.get_start_method() == "loky"
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert outcome.cause is None
    assert outcome.result == 3


def test_a_rank_that_answers_no_signal_is_ended_from_beside(tmp_path: Path) -> None:
    said = tmp_path / "said"
    outcome = launch(workers.deaf_to_sigterm, [str(said)] * 2, threads=1)
    assert outcome.cause is not None
    assert outcome.cause.sentence == "rank 0 ended with status 143, and did not say why"
    assert said.read_text() == "interrupted"


def test_a_rank_that_leaves_in_time_is_left_alone() -> None:
    outcome = launch(workers.leaves_in_time, [20.0, 20.0], threads=1)
    assert (outcome.cause, outcome.result) == (None, True)
