"""What ranks do in the tests: functions that a started process can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from idl_cli.distributed.group import Group, current
from idl_cli.distributed.join import joined
from idl_cli.errors import ConfigError, NonFiniteError


@dataclass(frozen=True)
class Fault:
    """What one rank does wrong, once all have joined."""

    rank: int
    kind: str


def collectives(seed: int) -> dict[str, object]:
    """Every collective once; the ranks hold different numbers of rows."""
    with joined("cpu", timeout=60.0) as group:
        total = torch.full((2, 3), 0.1 + group.rank, dtype=torch.float64)
        total = total.t()  # not contiguous
        group.all_reduce_sum_([total])
        sent = torch.full((3,), float(seed + group.rank), dtype=torch.float32)
        group.broadcast_(sent, source=group.size - 1)
        rows = 2 * group.rank + torch.arange(2 * group.rank * 4).reshape(2 * group.rank, 2, 2)
        gathered = group.gather_rows(rows)
        group.barrier()
        return {
            "sum": total.tolist(),
            "sent": sent.tolist(),
            "rows": gathered.tolist(),
            "objects": group.gather_objects({"rank": group.rank}),
            "object": group.broadcast_object(f"from {group.rank}", source=1),
            "group": group,
            "current": current(),
            "threads": torch.get_num_threads(),
            "pid": os.getpid(),
        }


def with_fault(fault: Fault) -> str:
    """Join, then go wrong as told; the other ranks wait for the one that does."""
    with joined("cpu", timeout=60.0) as group:
        group.barrier()
        if group.rank == fault.rank:
            _FAULTS[fault.kind]()
        while True:
            group.barrier()


def never_joins(rank: int) -> None:
    """All but the last rank wait for it in vain."""
    if rank == 1:
        _hang()
    with joined("cpu", timeout=1.0):
        pass


def alone(_: object) -> Group:
    """Join nothing."""
    return current("cpu")


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise ZeroDivisionError("the seventh block is empty")


def _raise_foreseen() -> None:
    raise NonFiniteError("the loss became NaN at step 3")


def _refuse() -> None:
    raise ConfigError(["trainer.tol=0: must be above 0", "seed=-1: must not be negative"])


def _run_out_of_memory() -> None:
    raise MemoryError("cannot allocate 80 GiB")


def _run_out_of_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")


def _exit() -> None:
    os._exit(7)


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _hang()


def _hang() -> None:
    while True:
        time.sleep(60)


_FAULTS: dict[str, Callable[[], None]] = {
    "killed": _kill_myself,
    "raises": _raise,
    "foreseen": _raise_foreseen,
    "refuses": _refuse,
    "memory": _run_out_of_memory,
    "gpu_memory": _run_out_of_gpu_memory,
    "exits": _exit,
    "hangs": _ignore_sigterm,
}
