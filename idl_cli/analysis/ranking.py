"""By which figure runs are ranked, wherever they are: of sweeps, comparisons, studies, plots.

Choosing by the test part would report a figure that the choice has improved, so the validation
part goes first where there is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

VALIDATION_METRICS: Final = ("validation_accuracy", "validation_r2", "validation_loss")
TEST_METRICS: Final = ("test_accuracy", "test_r2", "test_mse", "test_loss")

_DOT: Final = re.compile(r"\.(?!\d)")
_HIGH: Final = ("accuracy", "r2", "agreement", "score", "radius")
_LOW: Final = ("loss", "mse", "mae", "mape", "gap", "residual", "seconds", "iterations", "error")


def ranking_metric(
    figures: Iterable[Mapping[str, object]], wanted: str | None = None
) -> str | None:
    """The figure that a set of runs is ranked by; None where none of them has one.

    Args:
        figures: of every run.
        wanted: the user's choice (``optimized_metric``); None for the first that any run has, of
            the validation part before the test part.
    """
    names = (*VALIDATION_METRICS, *TEST_METRICS) if wanted is None else (wanted,)
    return _first(names, figures)


def reported_beside(metric: str, figures: Iterable[Mapping[str, object]]) -> str | None:
    """The figure of the test part to report where runs are ranked by another; None for none."""
    return None if metric in TEST_METRICS else _first(TEST_METRICS, figures)


def _first(names: Iterable[str], figures: Iterable[Mapping[str, object]]) -> str | None:
    every = list(figures)
    return next((name for name in names if any(_has(each.get(name)) for each in every)), None)


def _has(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def last_part(name: str) -> str:
    """What stands behind the last dot of a name, a number's own dot aside."""
    return _DOT.split(name)[-1]


def is_higher_better(name: str) -> bool | None:
    """Whether more of a figure is better; None where that is unknown."""
    last = last_part(name)
    if any(word in last for word in _HIGH):
        return True
    return False if any(word in last for word in _LOW) else None
