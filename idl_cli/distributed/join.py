"""Joining the processes of one job, and leaving them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from idl_cli.distributed.devices import resolve_device
from idl_cli.distributed.environment import launched
from idl_cli.distributed.group import Backend, Group
from idl_cli.distributed.store import JOIN_TIMEOUT, MeetingPlace, meet
from idl_cli.errors import RankError

_MESSAGE_TIMEOUT: Final = 86400.0
"""Seconds a rank waits in a collective. Long, since one rank may work alone for hours: that the
others still live is the launcher's to watch, and a closed connection ends the wait at once."""
_ABANDONING: Final = 5.0


@contextmanager
def joined(
    policy: str = "auto", timeout: float = JOIN_TIMEOUT, *, meeting: MeetingPlace | None = None
) -> Iterator[Group]:
    """Join the processes that a launcher started; of a process started alone, a group of one.

    NCCL carries the messages where every rank has a GPU of its own, gloo otherwise.

    Args:
        policy: the key ``device``: auto (the GPU of this rank, if there is one), cpu, cuda,
            cuda:N.
        timeout: seconds to wait for all ranks to be there.
        meeting: where the ranks meet, if it is open already.

    Yields:
        The group; it ends with the context, which all ranks leave together.

    Raises:
        RankError: a rank did not come in time, or the ranks cannot reach each other.
        RequestError: the environment is half set.
        ConfigError: there is no such device.
    """
    place = launched()
    device = resolve_device(policy, 0 if place is None else place.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place is None or place.size == 1:
        yield Group.single(device)
        return
    meeting = meet(place, timeout) if meeting is None else meeting
    backend = backend_for(meeting.exchange("gpu", _identity(device), timeout))
    try:
        dist.init_process_group(
            backend,
            store=PrefixStore("group", meeting.store),
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=_MESSAGE_TIMEOUT),
            device_id=device if backend == "nccl" else None,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RankError(f"rank {place.rank} cannot reach the other ranks: {reason}") from error
    group = Group(place.rank, place.size, place.local_rank, device, backend)
    try:
        yield group
        group.barrier()  # no rank leaves while another may still need it, or fail
    except BaseException:
        if backend == "nccl":
            abandon(dist.group.WORLD)
        else:
            dist.destroy_process_group()
        raise
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    dist.destroy_process_group()


def abandon(group: object, patience: float = _ABANDONING) -> None:
    """Drop a group of NCCL without a word to the other ranks, some of which no longer answer.

    ``destroy_process_group`` waits for them, and so would the end of the interpreter.

    Args:
        group: a process group.
        patience: seconds after which to go on all the same: the driver may hang too.
    """
    abort: Callable[[], object] | None = getattr(group, "abort", None)  # older torch has none
    if abort is None:
        return

    def work() -> None:
        with suppress(RuntimeError):
            abort()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)


def backend_for(gpus: Sequence[str | None]) -> Backend:
    """The backend that can carry messages between these ranks.

    Args:
        gpus: which GPU each rank has, under a name no other GPU has; None for the CPU.
    """
    own = None not in gpus and len(set(gpus)) == len(gpus)
    return "nccl" if own and dist.is_nccl_available() else "gloo"


def _identity(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    return f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"
