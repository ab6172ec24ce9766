"""Equilibria are solved in the parameters' precision, whatever autocast is on around them."""

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
