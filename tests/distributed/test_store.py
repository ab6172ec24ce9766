"""The store in which ranks meet: its words are read before whoever keeps it leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from idl_cli.distributed.environment import Launched
from idl_cli.distributed.store import MeetingPlace, meet
from idl_cli.errors import PeerLostError
from tests.distributed.helpers import free_port


def _meeting_places() -> list[MeetingPlace]:
    port = free_port()
    return [meet(Launched(r, 2, r, 2, "127.0.0.1", port, run_id="test"), 10.0) for r in range(2)]


def test_whoever_keeps_the_store_leaves_after_its_readers() -> None:
    keeper, reader = _meeting_places()
    with ThreadPoolExecutor(1) as threads:
        reader.tell("word", "reader's")
        leaving = threads.submit(keeper.exchange, "word", "keeper's", 10.0)
        assert wait([leaving], timeout=0.3).not_done  # it has heard all, but has not been heard
        assert reader.exchange("word", "reader's", 10.0) == ["keeper's", "reader's"]
        assert leaving.result() == ["keeper's", "reader's"]


def test_a_store_that_is_gone_is_a_lost_peer() -> None:
    places = _meeting_places()
    reader = places.pop()
    places.clear()
    with pytest.raises(PeerLostError, match="no longer answers"):
        reader.exchange("word", "reader's", 10.0)
