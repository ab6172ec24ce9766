"""Figures, durations and numbers as people read them; nothing here knows a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

_SHOWN: Final = (
    ("loss", "loss", ".4f"),
    ("accuracy", "accuracy", ".4f"),
    ("certified_accuracy", "certified", ".4f"),
    ("attacked_accuracy", "attacked", ".4f"),
    ("epsilon", "ε", ".3g"),
    ("r2", "R²", ".4f"),
    ("validation_loss", "val loss", ".4f"),
    ("validation_accuracy", "val accuracy", ".4f"),
    ("validation_certified_accuracy", "val certified", ".4f"),
    ("validation_attacked_accuracy", "val attacked", ".4f"),
    ("validation_r2", "val R²", ".4f"),
    ("iterations_mean", "iterations", ".1f"),
    ("iterations_max", "max", ".0f"),
    ("inf_norm_A", "‖A‖∞", ".4f"),
    ("lr", "lr", ".3g"),
)
"""What is shown of a record: its key, a short label, the number's format."""

_TIMES: Final = (
    ("equilibrium_seconds", "equilibria"),
    ("adjoint_seconds", "adjoints"),
    ("data_seconds", "data"),
)
"""Parts of the seconds of a record: the key, a short label."""


def figures(record: Mapping[str, object]) -> str:
    """The known figures of a record on one line; unconverged equilibria if there are any."""
    parts = [
        f"{label} {float(str(record[key])):{form}}"
        for key, label, form in _SHOWN
        if is_number(record.get(key))
    ]
    unconverged = record.get("unconverged_share")
    if is_number(unconverged) and float(str(unconverged)) > 0:
        parts.append(f"unconverged {float(str(unconverged)):.2%}")
    return "  ".join([*parts, *_pace(record)])


def _pace(record: Mapping[str, object]) -> Iterator[str]:
    """How fast samples are trained on, and which shares of the time go where."""
    rate, seconds = record.get("samples_per_second"), record.get("seconds")
    if not is_number(rate) or not is_number(seconds) or not float(str(seconds)) > 0:
        return
    yield f"{float(str(rate)):,.0f} samples/s"
    for key, label in _TIMES:
        if is_number(record.get(key)):
            yield f"{label} {float(str(record[key])) / float(str(seconds)):.0%}"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``8.1 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def is_number(value: object) -> bool:
    """Whether it is a number, no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as tables and facts show it: four digits of a number, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if value != int(value or 0) or abs(value) >= 1e6 else f"{value:g}"
    return str(value)
