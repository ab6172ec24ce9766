"""A few gloo processes that each call one function, for tests of what ranks do together."""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from idl_cli.distributed.group import Group, current

SECONDS = 120


def run_ranks(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``work(group, *arguments)`` in ``size`` processes; what they return, by rank.

    Args:
        size: number of processes; a single one is this process itself.
        work: a function of a module, which the processes import; returns plain values or tensors.
        arguments: picklable.
    """
    if size == 1:
        return [work(Group.single(), *arguments)]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawned = multiprocessing.spawn(
        _rank, (size, port, queue, work, arguments), nprocs=size, join=False
    )
    results: dict[int, bytes] = {}
    deadline = time.monotonic() + SECONDS
    while len(results) < size and time.monotonic() < deadline:
        try:
            rank, result = queue.get(timeout=0.1)
            results[rank] = result
        except Empty:
            spawned.join(timeout=0.01)  # raises what a process raised
    while not spawned.join():
        pass
    return [pickle.loads(results[rank]) for rank in range(size)]


def _rank(
    rank: int,
    size: int,
    port: int,
    queue: Any,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=SECONDS),
    )
    try:
        # By value: tensors in shared memory could be gone before they are looked at.
        queue.put((rank, pickle.dumps(work(current(), *arguments))))
        dist.barrier()
    finally:
        dist.destroy_process_group()
