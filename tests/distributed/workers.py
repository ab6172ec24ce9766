"""What ranks do in the tests: functions that a started process can import."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from idl_cli.distributed.environment import launched
from idl_cli.distributed.failure import RankReport
from idl_cli.distributed.group import current
from idl_cli.distributed.join import joined
from idl_cli.distributed.store import meet
from idl_cli.distributed.watchdog import watchdog
from idl_cli.errors import PeerLostError


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


def large_sums(size: int) -> list[list[np.ndarray]]:
    """Arrays of a megabyte on every rank: as they were, then their sums as each rank has them."""
    with joined("cpu", timeout=60.0) as group:
        generator = torch.Generator().manual_seed(group.rank)
        floats = torch.randn(size, size, dtype=torch.float64, generator=generator)
        own = [floats, floats.float().T, torch.arange(size * size) * (group.rank + 1)]
        sums = [tensor.clone() for tensor in own]
        group.all_reduce_sum_(sums)
        both = group.gather_objects((own, sums))
        return [[tensor.numpy() for tensor in tensors] for pair in both for tensors in pair]


def dies_before_a_large_sum(rank: int) -> None:
    """Rank 1 is killed; rank 0, which waits for it, must call it lost and no more."""
    with joined("cpu", timeout=60.0) as group:
        group.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with contextlib.suppress(PeerLostError):
            group.all_reduce_sum_([torch.zeros(1 << 20)])
            raise AssertionError("a sum without a peer")
        _hang()


def raises_while_another_hangs(rank: int) -> None:
    """Rank 1 raises, rank 0 does not follow SIGTERM."""
    with joined("cpu", timeout=60.0) as group:
        group.barrier()
        if rank == 1:
            raise ZeroDivisionError("the seventh block is empty")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _hang()


def deaf_to_sigterm(said: str) -> None:
    """Rank 0 is told to stop while in native code that answers no signal; rank 1 is done."""
    place = launched()
    assert place is not None
    meeting = meet(place, timeout=60.0)
    if place.rank == 1:
        meeting.tell_end(asdict(RankReport(1, "completed")), failed=False)
        return
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # it would not come through either
    with watchdog(meeting, lambda cause: Path(said).write_text(cause.kind), after_signal=0.3):
        os.kill(os.getpid(), signal.SIGTERM)
        TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False).wait(
            ["never"], timedelta(hours=1)
        )


def leaves_in_time(seconds: float) -> bool:
    """Every rank is told to stop, and does; nothing is to be said for it."""
    place = launched()
    assert place is not None
    meeting = meet(place, timeout=60.0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with watchdog(meeting, lambda cause: os._exit(9), after_signal=seconds):
            os.kill(os.getpid(), signal.SIGTERM)
            _hang()
    except KeyboardInterrupt:
        return True


def never_joins(rank: int) -> None:
    """Rank 0 waits for rank 1 in vain."""
    if rank == 1:
        _hang()
    with joined("cpu", timeout=1.0):
        pass


def _hang() -> None:
    while True:
        time.sleep(60)
