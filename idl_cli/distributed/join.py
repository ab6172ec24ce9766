"""Joining the processes of one job, and leaving them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from idl_cli.distributed.environment import Launched, launched
from idl_cli.distributed.group import Backend, Group
from idl_cli.errors import ConfigError, RankError

JOIN_TIMEOUT: Final = 300.0
_MESSAGE_TIMEOUT: Final = 86400.0
"""Seconds a rank waits in a collective. Long, since one rank may work alone for hours: that the
others still live is the launcher's to watch, and a closed connection ends the wait at once."""


@contextmanager
def joined(policy: str = "auto", timeout: float = JOIN_TIMEOUT) -> Iterator[Group]:
    """Join the processes that a launcher started; of a process started alone, a group of one.

    NCCL carries the messages where every rank has a GPU of its own, gloo otherwise.

    Args:
        policy: the key ``device``: auto (the GPU of this rank, if there is one), cpu, cuda,
            cuda:N.
        timeout: seconds to wait for all ranks to be there.

    Yields:
        The group; it ends with the context.

    Raises:
        RankError: a rank did not come in time, or the ranks cannot reach each other.
        RequestError: the environment is half set.
        ConfigError: there is no such device.
    """
    place = launched()
    if place is None or place.size == 1:
        yield Group.single(own_device(policy, place))
        return
    device = own_device(policy, place)
    store = open_store(place, timeout)
    backend = _backend(_meet(store, place, device, timeout))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=_MESSAGE_TIMEOUT),
            device_id=device if backend == "nccl" else None,
        )
    except (RuntimeError, ValueError) as error:
        raise RankError(f"rank {place.rank} cannot reach the other ranks: {error}") from error
    group = Group(place.rank, place.size, place.local_rank, device, backend)
    try:
        yield group
    except BaseException:
        # NCCL's farewell waits for all ranks; after a failure some no longer answer.
        if backend != "nccl":
            dist.destroy_process_group()
        raise
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    dist.destroy_process_group()


def own_device(policy: str, place: Launched | None) -> torch.device:
    """The device of this rank.

    Args:
        policy: the key ``device``.
        place: of this process; None if it was started alone.

    Raises:
        ConfigError: there is no such device.
    """
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if policy == "cpu" or (policy == "auto" and not visible):
        return torch.device("cpu")
    if ":" in policy:
        device = torch.device(policy)
    else:
        local_rank = 0 if place is None else place.local_rank
        device = torch.device("cuda", local_rank % max(visible, 1))
    if (device.index or 0) >= visible:
        found = f"cuda:0 to cuda:{visible - 1}" if visible else "no CUDA device"
        raise ConfigError([f"device={policy}: torch sees {found} here; use device=auto or cpu"])
    return device


def open_store(place: Launched, timeout: float) -> Store:
    """Open the key-value store in which the ranks meet.

    Raises:
        RankError: its port is in use, or nobody answers there.
    """
    listens = place.rank == 0 and not place.agent_store
    where = f"{place.address}:{place.port}"
    try:
        store = TCPStore(
            place.address,
            place.port,
            None,
            listens,
            timedelta(seconds=timeout),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        if listens:
            raise RankError(
                f"rank 0 cannot listen on {where} (MASTER_ADDR, MASTER_PORT): "
                f"{_reason(error)}; choose another port"
            ) from error
        raise RankError(
            f"rank {place.rank} got no answer from {where} (MASTER_ADDR, MASTER_PORT) within "
            f"{timeout:g} s: rank 0 is not there, or its port cannot be reached from here"
        ) from error
    return PrefixStore(f"idl/{place.run_id}/{place.attempt}", store)


def _reason(error: Exception) -> str:
    return "address already in use" if "EADDRINUSE" in str(error) else str(error).splitlines()[0]


def _meet(store: Store, place: Launched, device: torch.device, timeout: float) -> list[str | None]:
    """Wait for all ranks; return which GPU each has, None for the CPU."""
    gpu = None
    if device.type == "cuda":
        uuid = torch.cuda.get_device_properties(device).uuid
        gpu = f"{socket.gethostname()} {uuid}"
    keys = [f"joined/{rank}" for rank in range(place.size)]
    store.set(keys[place.rank], json.dumps(gpu))
    deadline = time.monotonic() + timeout
    for key in keys:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            store.wait([key], timedelta(seconds=left))
        except RuntimeError as error:
            missing = [rank for rank in range(place.size) if not store.check([keys[rank]])]
            raise RankError(_missed(missing, place.size, timeout)) from error
    return [json.loads(store.get(key)) for key in keys]


def _missed(missing: list[int], size: int, timeout: float) -> str:
    ranks = ", ".join(map(str, missing))
    return (
        f"rank{'s' if len(missing) > 1 else ''} {ranks} of {size} did not join within "
        f"{timeout:g} s (join_timeout)"
    )


def _backend(gpus: list[str | None]) -> Backend:
    own = None not in gpus and len(set(gpus)) == len(gpus)
    return "nccl" if own and dist.is_nccl_available() else "gloo"
