"""The sums of products of recorded states that the row problem is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idl_cli.sim.statistics.dense import SufficientStatistics as SufficientStatistics

__all__ = ["SufficientStatistics"]


def __getattr__(name: str) -> object:
    """The class on first use: whoever imports a single check must not import what needs it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from idl_cli.sim.statistics.dense import SufficientStatistics

    return SufficientStatistics
