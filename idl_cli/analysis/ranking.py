"""Which figure a run is judged by, and whether more of it is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

TEST_METRICS: Final = (
    "test_accuracy",
    "test_r2",
    "test_mse",
    "test_loss",
    "validation_accuracy",
    "validation_r2",
    "validation_loss",
)
"""What runs are ranked by: the first that any of them has."""

_HIGH: Final = ("accuracy", "r2", "agreement", "score")
_LOW: Final = ("loss", "mse", "mae", "mape", "gap", "residual", "seconds", "iterations", "error")


def ranking_metric(figures: Iterable[Mapping[str, object]]) -> str | None:
    """The metric that a set of runs is ranked by; None where none has one."""
    every = list(figures)
    return next((name for name in TEST_METRICS if any(name in each for each in every)), None)


def is_better_high(name: str) -> bool | None:
    """Whether more of a figure is better; None where that is unknown."""
    last = name.rpartition(".")[2]
    if any(word in last for word in _HIGH):
        return True
    return False if any(word in last for word in _LOW) else None
