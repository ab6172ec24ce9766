"""Metrics and counts of solves over the samples of all ranks.

Every rank adds the ranks' sums in the same order, so that all hold the same figures to the bit, and
decide alike by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.evaluation.metrics import Metrics


class Statistics(Protocol):
    """What counts the solves of a model: ``equilibrium.statistics.SolveStatistics``."""

    def reset(self) -> None:
        """Forget everything."""
        ...

    def summary(self) -> dict[str, float]:
        """Return the figures since the last reset."""
        ...

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the counts."""
        ...

    def merge(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Add other counts."""
        ...


def merged_metrics(metrics: Metrics, fresh: Metrics, group: Group) -> Metrics:
    """Return the metrics over the samples of all ranks.

    Args:
        metrics: of this rank's samples.
        fresh: metrics of the same kind, with nothing added; what is returned for several ranks.
        group: of the ranks, all of which call this.
    """
    if group.size == 1:
        return metrics
    for state in group.gather_objects(on_cpu(metrics.state_dict())):
        fresh.merge(state)
    return fresh


def merge_statistics(statistics: Statistics, group: Group) -> None:
    """Make every rank's counts those of all ranks, all of which call this."""
    if group.size == 1:
        return
    states = group.gather_objects(statistics.state_dict())
    statistics.reset()
    for state in states:
        statistics.merge(state)


def on_cpu(state: Mapping[str, object]) -> dict[str, object]:
    """Return a nested state with its tensors on the CPU, where every rank can take them."""
    return {
        key: value.cpu()
        if isinstance(value, Tensor)
        else on_cpu(value)
        if isinstance(value, Mapping)
        else value
        for key, value in state.items()
    }
