"""Missing values of a series: filled by a named rule, or left out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from idl_cli.data.windows import Parts, Series, Windows

Rule = Literal["error", "drop", "forward_fill", "interpolate"]


def fill(series: Series, rule: Rule, parts: Parts) -> Series:
    """Fill missing values where the rule is one that fills.

    ``forward_fill`` repeats the last value observed before. ``interpolate`` draws a straight line
    over the rows between the values around, within one part of the series: training rows never
    depend on test rows; at the end of a part it repeats the last value. What has nothing before it
    stays missing.

    Args:
        series: (T, features), NaN where missing.
        rule: the rule.
        parts: where the parts begin.

    Returns:
        A new array, (T, features).
    """
    filled: Series = series.copy()
    if rule in ("error", "drop"):
        return filled
    for column in filled.T:
        if rule == "interpolate":
            for first, last in parts.bounds().values():
                _interpolate(column[first:last])
        _forward_fill(column)
    return filled


def usable_rows(filled: Series, observed: Series, windows: Windows) -> npt.NDArray[np.bool_]:
    """Which rows t have a window without gaps and targets that were really observed.

    Args:
        filled: (T, features), after ``fill``.
        observed: (T,), the target's column before it.
        windows: how samples are cut.

    Returns:
        Array (T,): False too where a window or a target would lie outside.
    """
    count = len(filled)
    gaps = np.concatenate([[0], np.cumsum(np.isnan(filled).any(axis=1))])
    unobserved = np.concatenate([[0], np.cumsum(np.isnan(observed))])
    rows = np.arange(windows.look_back, count - windows.horizon + 1)
    usable = np.zeros(count, dtype=np.bool_)
    usable[rows] = (gaps[rows] == gaps[rows - windows.look_back]) & (
        unobserved[rows + windows.horizon] == unobserved[rows]
    )
    return usable


def _interpolate(values: Series) -> None:
    known = np.flatnonzero(~np.isnan(values))
    if len(known):
        between = np.arange(known[0], known[-1] + 1)
        values[between] = np.interp(between, known, values[known])


def _forward_fill(values: Series) -> None:
    known = np.where(np.isnan(values), -1, np.arange(len(values)))
    last = np.maximum.accumulate(known)
    values[last >= 0] = values[last[last >= 0]]
