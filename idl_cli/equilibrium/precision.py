"""Equilibria are solved in the parameters' precision, or in float32 where that is less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_autocast(device_type: str) -> Iterator[None]:
    """Switch autocast off: an iteration rounded to bfloat16 cannot reach its tolerance.

    Needed in a backward too: on the CPU it runs in the region where ``backward()`` is called.

    Args:
        device_type: ``cpu``, ``cuda``, ...
    """
    if not torch.is_autocast_enabled(device_type):
        yield
        return
    with torch.autocast(device_type, enabled=False):
        yield


def solving_dtype(parameters: torch.dtype) -> torch.dtype:
    """Return the dtype in which equilibria are solved: the parameters' own, at least float32.

    In half precision an iteration stands still, with a residual of 0, far from its solution.
    """
    return torch.float32 if torch.finfo(parameters).bits < 32 else parameters
