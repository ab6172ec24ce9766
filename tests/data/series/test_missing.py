from __future__ import annotations

import numpy as np
import pytest

from idl_cli.data.series.missing import Rule, fill, rule_for, usable_rows
from idl_cli.data.series.windows import Parts, Windows

NAN = float("nan")
PARTS = Parts(validation=5, test=5, end=10)
SERIES = np.array([NAN, 1.0, NAN, 3.0, NAN, 7.0, NAN, NAN, 10.0, NAN])[:, None]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("drop", SERIES[:, 0]),
        ("forward_fill", [NAN, 1, 1, 3, 3, 7, 7, 7, 10, 10]),
        # Row 4 is the last of the training part: the 7 after it must not be looked at.
        ("interpolate", [NAN, 1, 2, 3, 3, 7, 8, 9, 10, 10]),
    ],
)
def test_rules(rule: Rule, expected: list[float]) -> None:
    before = SERIES.copy()
    np.testing.assert_array_equal(fill(SERIES, rule, PARTS)[:, 0], expected)
    np.testing.assert_array_equal(SERIES, before)


def test_dropping_leaves_the_samples_that_touch_no_gap() -> None:
    series = np.arange(12.0)
    series[4] = NAN
    windows = Windows(look_back=2, horizon=2, stride=1)
    usable = usable_rows(series[:, None], series[:, None], windows, "drop")
    touching = {row for row in range(12) if 4 in range(row - 2, row + 2)}
    possible = set(range(2, 11))
    assert set(np.flatnonzero(usable)) == possible - touching


# Row 3 is missing. Row 4's window ends in it: repeated it is as good as any, but a line drawn from
# row 2 to row 4 would tell the target.
RULES: dict[Rule, set[int]] = {"forward_fill": {2, 4, 5, 6, 7}, "interpolate": {2, 5, 6, 7}}


def test_filled_values_are_inputs_but_never_targets() -> None:
    series = np.arange(8.0)
    series[3] = NAN
    windows = Windows(look_back=2, horizon=1, stride=1)
    for rule, expected in RULES.items():
        filled = fill(series[:, None], rule, Parts(8, 8, 8))
        usable = usable_rows(filled, series[:, None], windows, rule)
        assert set(np.flatnonzero(usable)) == expected


def test_few_gaps_are_bridged_unless_something_else_is_asked_for() -> None:
    series = np.ones((40, 2))
    series[[5, 9], 1] = NAN
    assert rule_for(series, "auto") == "interpolate"
    assert rule_for(series, "error") == "error"
    series[11, 0] = NAN
    assert rule_for(series, "auto") == "error"
    assert rule_for(series, "drop") == "drop"
