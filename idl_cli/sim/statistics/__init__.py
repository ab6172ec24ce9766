"""The sums of products of recorded states that the row problem is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idl_cli.sim.statistics.dense import SufficientStatistics as SufficientStatistics

__all__ = ["SufficientStatistics"]


def __getattr__(name: str) -> object:
    # On first use: the statistics know what they are of, and that is told by files that need some
    # of this package's own.
    if name == "SufficientStatistics":
        from idl_cli.sim.statistics.dense import SufficientStatistics

        return SufficientStatistics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
