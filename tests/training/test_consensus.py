"""One process asks its own clock and signals; several are asked in ``test_ranks``."""

from __future__ import annotations

import signal

import pytest

from idl_cli.distributed.group import Group
from idl_cli.training.consensus import Consensus


def test_a_single_process_asks_itself_whenever_asked() -> None:
    received: list[int] = []
    consensus = Consensus(Group.single(), lambda: received[-1] if received else None)
    consensus.start(None)
    assert consensus.sum(3.0, 2.0) == (3.0, 2.0)
    assert consensus.signal is None
    assert not consensus.time_is_up
    received.append(signal.SIGTERM)
    assert consensus.signal == signal.SIGTERM


@pytest.mark.parametrize(("max_time", "up"), [(0.0, True), (1e6, False), (None, False)])
def test_time_is_counted_from_the_start(max_time: float | None, up: bool) -> None:
    consensus = Consensus(Group.single(), lambda: None)
    assert not consensus.time_is_up
    consensus.start(max_time)
    assert consensus.time_is_up is up
