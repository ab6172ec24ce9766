"""What the ranks of a training decide together: sums of a step, and whether to stop after it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable

import torch

from idl_cli.distributed.group import Group

_SIGNALS = (int(signal.SIGTERM), int(signal.SIGINT))


class Consensus:
    """Sums losses over the ranks, and lets no rank stop without the others.

    One short message a step carries both: ranks that asked their own clocks and signal handlers
    would stop at different steps, and wait for each other for ever. A single process asks itself.

    Args:
        group: of the ranks.
        interrupted: number of the signal that asks this rank to stop, None while there is none.
    """

    def __init__(self, group: Group, interrupted: Callable[[], int | None]) -> None:
        self.group = group
        self._interrupted = interrupted
        self._deadline = math.inf
        self._late = False
        self._signal: int | None = None

    def start(self, max_time: float | None) -> None:
        """Start the clock.

        Args:
            max_time: seconds from now after which time is up; None for no limit.
        """
        self._deadline = math.inf if max_time is None else time.perf_counter() + max_time
        self._late = False

    def sum(self, loss: float, weight: float) -> tuple[float, float]:
        """Return a step's Σ wᵢ ℓᵢ and Σ wᵢ over all ranks, and take note of who has to stop."""
        if self.group.size == 1:
            return loss, weight
        number = self._interrupted()
        votes = [float(self._is_late()), *(float(number == each) for each in _SIGNALS)]
        message = torch.tensor([loss, weight, *votes], dtype=torch.float64)
        self.group.all_reduce_sum_([message])
        loss, weight, late, *interrupted = message.tolist()
        self._late = late > 0
        came = [each for each, count in zip(_SIGNALS, interrupted, strict=True) if count]
        self._signal = came[0] if came else None
        return loss, weight

    def ask(self) -> None:
        """Ask the ranks whether to stop, where no step does."""
        self.sum(0.0, 0.0)

    @property
    def time_is_up(self) -> bool:
        """Whether time was up on some rank when the ranks last spoke."""
        return self._is_late() if self.group.size == 1 else self._late

    @property
    def signal(self) -> int | None:
        """Number of the signal that had come to some rank when the ranks last spoke."""
        return self._interrupted() if self.group.size == 1 else self._signal

    def _is_late(self) -> bool:
        return time.perf_counter() >= self._deadline
