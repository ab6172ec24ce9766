"""The key-value store in which ranks meet: small texts, before there is a process group."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from idl_cli.distributed.environment import Launched
from idl_cli.errors import PeerLostError, RankError, RankExit

JOIN_TIMEOUT: Final = 300.0
_SLICE: Final = 5.0  # seconds of one attempt to connect: a signal is answered between two of them
_PAUSE: Final = 0.02  # seconds between two looks
_RECONNECTING: Final = 30.0  # seconds for a second connection to whoever has answered before
_LEAVING: Final = 1.0  # seconds that the store stays open for those who have yet to read
_HEARD: Final = "heard"  # before a topic: who has read its words
_END: Final = "end"  # topic of the last words
_FAILED: Final = "failed"  # key that the first rank to fail sets


@dataclass(frozen=True)
class MeetingPlace:
    """A store shared by all ranks, and which of them this process is.

    Attributes:
        place: this process's.
        store: shared by the ranks of this launch alone.
    """

    place: Launched
    store: Store

    def reconnected(self) -> MeetingPlace:
        """The same place over a connection of its own: one that waits lets nobody else use it."""
        store = _connect(self.place, _RECONNECTING)
        return MeetingPlace(self.place, _of_launch(self.place, store))

    def tell(self, topic: str, value: object) -> None:
        """Put down this rank's word on a topic; plain JSON values."""
        self.store.set(f"{topic}/{self.place.rank}", json.dumps(value))

    def tell_end(self, value: object, *, failed: bool) -> None:
        """Put down this rank's last word; after a failure no rank waits for other words."""
        self.tell(_END, value)
        if failed:
            self.store.set(_FAILED, str(self.place.rank))

    def has_told_end(self) -> bool:
        """Whether this rank's last word has been said."""
        return bool(self.store.check([f"{_END}/{self.place.rank}"]))

    def hear_ends(self, timeout: float) -> list[Any]:
        """Return every rank's last word, as ``hear`` does.

        The rank that keeps the store waits a moment for the others to have heard them too.
        """
        words = self.hear(_END, timeout)
        self.wait_for_readers(_END, words)
        return words

    def wait_for_readers(self, topic: str, words: Sequence[object]) -> None:
        """Say that this rank has heard a topic; the one that keeps the store waits for the others.

        Args:
            topic: as for ``tell``.
            words: what was heard; a rank that said nothing is not waited for.
        """
        self.tell(f"{_HEARD}/{topic}", True)
        if not self.place.listens:
            return
        there = [rank for rank, word in enumerate(words) if not isinstance(word, Unheard)]
        keys = [f"{_HEARD}/{topic}/{rank}" for rank in there]
        deadline = time.monotonic() + _LEAVING
        while not self.store.check(keys) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def failed_rank(self) -> int | None:
        """A rank whose last word tells of a failure; None while there is none."""
        return int(self.store.get(_FAILED)) if self.store.check([_FAILED]) else None

    def hear(self, topic: str, timeout: float) -> list[Any]:
        """Return every rank's word on a topic.

        Args:
            topic: as for ``tell``.
            timeout: seconds to wait for all of them.

        Returns:
            In the order of ranks; ``Unheard`` where a rank said nothing in time.

        Raises:
            PeerLostError: a rank has failed before it said its word on this topic.
        """
        keys = [f"{topic}/{rank}" for rank in range(self.place.size)]
        deadline = time.monotonic() + timeout
        while not self.store.check(keys) and time.monotonic() < deadline:
            gone = None if topic == _END else self.failed_rank()
            if gone is not None and not self.store.check([keys[gone]]):
                raise PeerLostError(f"rank {gone} has ended")
            time.sleep(_PAUSE)  # store.wait would answer no signal meanwhile
        return [
            json.loads(self.store.get(key)) if self.store.check([key]) else Unheard(rank)
            for rank, key in enumerate(keys)
        ]

    def exchange(self, topic: str, value: object, timeout: float) -> list[Any]:
        """Say this rank's word on a topic and return everyone's.

        Raises:
            RankError: a rank did not say its word in time; the message names it. Of the ranks
                that did, the first raises it, the others ``RankExit``.
            PeerLostError: a rank has failed before, or whoever keeps the store has ended.
        """
        try:
            self.tell(topic, value)
            words = self.hear(topic, timeout)
            self.wait_for_readers(topic, words)
        except DistError as error:
            reason = str(error).splitlines()[0]
            raise PeerLostError(f"whoever keeps the store no longer answers: {reason}") from error
        silent = [str(word.rank) for word in words if isinstance(word, Unheard)]
        if not silent:
            return words
        if speaker(words) != self.place.rank:
            raise RankExit(RankError.exit_status)
        raise RankError(
            f"rank{'s' if len(silent) > 1 else ''} {', '.join(silent)} of {self.place.size} "
            f"did not join within {timeout:g} s (join_timeout)"
        )


@dataclass(frozen=True)
class Unheard:
    """Stands for the word of a rank that said nothing."""

    rank: int


def speaker(words: Sequence[object]) -> int:
    """The rank that tells the user what happened: the first of those that can be heard."""
    return next((r for r, word in enumerate(words) if not isinstance(word, Unheard)), 0)


def meet(place: Launched, timeout: float = JOIN_TIMEOUT) -> MeetingPlace:
    """Open the store of a launch: rank 0 listens, or the launcher does, and all connect.

    Args:
        place: of this process.
        timeout: seconds to wait for whoever listens.

    Raises:
        RankError: the port is in use, or nobody answers there.
    """
    store = _listen(place) if place.listens else _connect(place, timeout)
    return MeetingPlace(place, _of_launch(place, store))


def _of_launch(place: Launched, store: Store) -> Store:
    return PrefixStore(f"idl/{place.run_id}/{place.attempt}", store)


def _listen(place: Launched) -> Store:
    try:
        return TCPStore(place.address, place.port, None, True, wait_for_workers=False)
    except (RuntimeError, ValueError) as error:
        in_use = "EADDRINUSE" in str(error)
        reason = "the port is in use" if in_use else str(error).splitlines()[0]
        raise RankError(
            f"rank 0 cannot listen on {_where(place)}: {reason}; choose another port"
        ) from error


def _connect(place: Launched, timeout: float) -> Store:
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            attempt = timedelta(seconds=max(min(left, _SLICE), 0.1))
            store = TCPStore(place.address, place.port, None, False, attempt)
        except RuntimeError as error:
            if deadline - time.monotonic() <= 0:
                raise RankError(
                    f"rank {place.rank} got no answer from {_where(place)} within {timeout:g} s "
                    "(join_timeout): rank 0 is not there, or cannot be reached from this machine"
                ) from error
            continue
        store.set_timeout(timedelta(seconds=timeout))
        return store


def _where(place: Launched) -> str:
    return f"{place.address}:{place.port} (MASTER_ADDR, MASTER_PORT)"
