"""Equilibria are solved in the parameters' precision, or in float32 where that is less.

On a GPU torch rounds the factors of float32 convolutions to TF32's 10 bits, and those of matrix
products where it is told to: the fixed point of a rounded map is some 1e-3 from that of the map,
whatever its residual says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    generic: Any = torch.backends
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    with ExitStack() as restoring:
        for backend in backends:
            owner: Any = getattr(backend, "conv", backend)
            if not hasattr(owner, "fp32_precision"):  # before torch 2.9
                restoring.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = False
            elif owner.fp32_precision == "tf32":
                # What follows torch.backends.fp32_precision is to follow it again.
                follows = generic.fp32_precision == "tf32"
                restoring.callback(setattr, owner, "fp32_precision", "none" if follows else "tf32")
                owner.fp32_precision = "ieee"
        yield


def solving_dtype(parameters: torch.dtype) -> torch.dtype:
    """Return the dtype in which equilibria are solved: the parameters' own, at least float32.

    In half precision an iteration stands still, with a residual of 0, far from its solution.
    """
    return torch.float32 if torch.finfo(parameters).bits < 32 else parameters
