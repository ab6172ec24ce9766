"""The sums of products of recorded states that the row problem is made of."""

from idl_cli.sim.statistics.dense import SufficientStatistics

__all__ = ["SufficientStatistics"]
