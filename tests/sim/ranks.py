"""One function called by a few gloo processes, for tests of what ranks do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from idl_cli.distributed.group import Group
from tests.training.ranks import shared_ranks


def run_ranks(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``work(group, *arguments)`` in ``size`` processes; what they return, by rank.

    Args:
        size: number of processes; a single one is this process itself.
        work: a function of a module, which the processes import; returns plain values or tensors.
        arguments: picklable.
    """
    if size == 1:
        return [work(Group.single(), *arguments)]
    return shared_ranks().run(size, work, *arguments)
