"""Several processes that make up a group, kept alive for many short pieces of work."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from idl_cli.distributed.group import current
from tests.forking import from_server

Work = Callable[..., Any]
_SECONDS = 120  # far beyond what any piece of work here takes


class Ranks:
    """Runs functions on several ranks, one thread each, and returns what each rank returned."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool = ProcessPoolExecutor(most, mp_context=from_server(), initializer=_prepare)

    def run(self, count: int, work: Work, *arguments: Any, **options: Any) -> list[Any]:
        """Call ``work(group, *arguments, **options)`` on each rank, and return in their order."""
        assert count <= self._most
        with tempfile.TemporaryDirectory() as directory:
            meeting = Path(directory) / "meeting"
            # Each piece waits for the others, so that no process takes two.
            futures = [
                self._pool.submit(_in_group, meeting, rank, count, work, arguments, options)
                for rank in range(count)
            ]
            return [pickle.loads(future.result(_SECONDS)) for future in futures]

    def close(self) -> None:
        """End the processes, also those that still wait."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
            process.join()


@cache
def shared_ranks() -> Ranks:
    """The ranks that all tests of a process share: started once, on first use."""
    return Ranks(3)


def _prepare() -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # as ``launch`` has it: the host's name may lead astray


def _in_group(
    meeting: Path,
    rank: int,
    count: int,
    work: Work,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> bytes:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        # By value: tensors in shared memory could be gone before they are looked at.
        return pickle.dumps(work(current(), *arguments, **options))
    finally:
        dist.destroy_process_group()
