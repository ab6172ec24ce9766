"""Missing values of a series: filled by a named rule, or left out."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from idl_cli.data.series.windows import Parts, Windows
from idl_cli.data.split import Series

Rule = Literal["error", "drop", "forward_fill", "interpolate"]

FEW: Final = 0.05
"""Share of empty rows up to which the rule ``auto`` interpolates; with more it refuses."""


def rule_for(series: Series, rule: Rule | Literal["auto"]) -> Rule:
    """Return the rule that ``auto`` stands for: few gaps are bridged, many need a decision.

    Args:
        series: (T, features), NaN where missing.
        rule: the rule asked for.
    """
    if rule != "auto":
        return rule
    return "interpolate" if np.isnan(series).any(axis=1).mean() <= FEW else "error"


def fill(series: Series, rule: Rule, parts: Parts) -> Series:
    """Fill missing values where the rule is one that fills.

    ``forward_fill`` repeats the last value observed before. ``interpolate`` draws a straight line
    over the rows between the values around, within one part of the series: training rows never
    depend on test rows; at the end of a part it repeats the last value. A line knows what comes
    after the gap, so ``usable_rows`` leaves out the windows that end in one. What has nothing
    before it stays missing.

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


def usable_rows(
    filled: Series, series: Series, windows: Windows, rule: Rule
) -> npt.NDArray[np.bool_]:
    """Which rows t have a window without gaps and targets that were really observed.

    With ``interpolate`` the last row of the window must have been observed too: a value drawn
    towards the target would tell of it.

    Args:
        filled: (T, features), after ``fill``.
        series: (T, features), before it.
        windows: how samples are cut.
        rule: that it was filled by.

    Returns:
        Array (T,): False too where a window or a target would lie outside.
    """
    count = len(filled)
    gaps = np.concatenate([[0], np.cumsum(np.isnan(filled).any(axis=1))])
    unobserved = np.concatenate([[0], np.cumsum(np.isnan(series[:, windows.target]))])
    rows = np.arange(windows.look_back, count - windows.horizon + 1)
    usable = np.zeros(count, dtype=np.bool_)
    usable[rows] = (gaps[rows] == gaps[rows - windows.look_back]) & (
        unobserved[rows + windows.horizon] == unobserved[rows]
    )
    if rule == "interpolate":
        usable[rows] &= ~np.isnan(series[rows - 1]).any(axis=1)
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
