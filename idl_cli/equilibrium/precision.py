"""Equilibria are solved in the parameters' precision, or in float32 where that is less.

On a GPU torch rounds the factors of float32 convolutions to TF32's 10 bits, and those of matrix
products where it is told to: the fixed point of a rounded map is some 1e-3 from that of the map,
whatever its residual says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Switch autocast off, and on a GPU TF32: rounded iterations cannot reach their tolerance.

    Needed in a backward too: on the CPU it runs in the region where ``backward()`` is called.

    Args:
        device_type: ``cpu``, ``cuda``, ...
    """
    if device_type == "cuda":
        with _without_tf32(), torch.autocast(device_type, enabled=False):
            yield
    elif torch.is_autocast_enabled(device_type):
        with torch.autocast(device_type, enabled=False):
            yield
    else:
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    switches = [_switch(torch.backends.cuda.matmul), _switch(torch.backends.cudnn)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, off in switches:
            setattr(owner, name, off)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


def _switch(backend: Any) -> tuple[Any, str, str | bool]:
    """Return what holds a backend's switch, its name, and what switches TF32 off."""
    owner = getattr(backend, "conv", backend)
    if hasattr(owner, "fp32_precision"):
        return owner, "fp32_precision", "ieee"
    return backend, "allow_tf32", False  # before torch 2.9


def solving_dtype(parameters: torch.dtype) -> torch.dtype:
    """Return the dtype in which equilibria are solved: the parameters' own, at least float32.

    In half precision an iteration stands still, with a residual of 0, far from its solution.
    """
    return torch.float32 if torch.finfo(parameters).bits < 32 else parameters
