"""Processes forked from one that has torch in memory: importing it takes longer than most tests."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_IMPORTED = (
    "torch",
    "torch._dynamo",
    "matplotlib.figure",
    "hydra.core.override_parser.overrides_parser",
)


def from_server() -> ForkServerContext:
    """A context whose processes are forked from a process that only imports, so has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context
