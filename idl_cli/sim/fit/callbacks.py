"""Who listens to a state-driven training, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from idl_cli.sim.regression.monitor import HistoryEntry

Stage = Literal["ab", "cd"]
Pass = Literal["states", "equilibria"]


class SimCallbacks:
    """Listens to a training; every method does nothing until a subclass overrides it."""

    def on_samples(self, name: Pass, count: int) -> None:
        """After each batch of a pass over the data: how many samples it has seen."""

    def on_progress(self, stage: Stage, entry: HistoryEntry) -> None:
        """Whenever a stage's weights were judged."""

    iterate_seconds: float | None = None
    """Seconds between two calls of ``on_iterate``; None for no calls."""

    def on_iterate(self, stage: Stage, state: Mapping[str, Tensor]) -> None:
        """A checkpoint, now and then during a solve that can be continued from it.

        In a group all processes are told the same, at the same time.
        """

    def restored_iterate(self, stage: Stage) -> Mapping[str, Tensor] | None:
        """What an interrupted training of the same problem was last told; None to start anew."""
        return None
