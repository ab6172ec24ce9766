from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from idl_cli.data.files.dates import Dates, find_dates
from idl_cli.data.files.table import Table
from idl_cli.errors import ConfigError, DataError


def _find(
    column: str,
    cells: list[str],
    chosen: str | None = "auto",
    date_format: str | None = None,
) -> Dates | None:
    rows = tuple((cell, str(index)) for index, cell in enumerate(cells))
    lines = tuple(range(2, len(rows) + 2))
    table = Table(Path("my.csv"), (column, "temp"), rows, lines, "point")
    return find_dates(table, chosen, date_format, ["temp"])


@pytest.mark.parametrize(
    ("cells", "second"),
    [
        (["2020-01-31", "2020-02-01"], "2020-02-01"),
        (["2020-01-31 23:00", "2020-02-01 00:30"], "2020-02-01T00:30"),
        (["2020-01-31T23:00:00Z", "2020-02-01T00:30:00Z"], "2020-02-01T00:30"),
        (["2020-01-31T23:00:00+02:00", "2020-02-01T00:30:00+02:00"], "2020-01-31T22:30"),
        (["20200131", "20200201"], "2020-02-01"),
        (["2020/01/31", "2020/02/01"], "2020-02-01"),
        (["2020-01", "2020-02"], "2020-02-01"),
        (["2020-1-31", "2020-2-1"], "2020-02-01"),
        (["202011", "202012", "202101"], "2020-12-01"),
        (["2020013123", "2020020100"], "2020-02-01"),
        (["202001312300", "202002010030"], "2020-02-01T00:30"),
        (["20200131230000", "20200201003000"], "2020-02-01T00:30"),
        (["20200131T2300", "20200201T0030"], "2020-02-01T00:30"),
        (["1701010800", "1701014400"], "2023-11-26T16:00"),
        (["1701010800000", "1701014400000"], "2023-11-26T16:00"),
        (["1701010800000000", "1701014400000001"], "2023-11-26T16:00:00.000001"),
        (["1701010800000000000", "1701014400000001000"], "2023-11-26T16:00:00.000001"),
        (["2020-W53", "2021-W01"], "2021-01-04"),
        (["2020W537", "2021W011"], "2021-01-04"),
        (["2019Q4", "2020Q1"], "2020-01-01"),
        (["2019-q4", "2020-q1"], "2020-01-01"),
        (["Q4 2019", "Q1 2020"], "2020-01-01"),
    ],
)
def test_formats_that_cannot_be_mistaken(cells: list[str], second: str) -> None:
    dates = _find("whenever", cells)
    assert dates is not None
    assert dates.found_by == "its first cell"
    assert dates.irregular_steps == 0
    assert dates.values[1] == np.datetime64(second)


def test_numbers_are_dates_by_the_name_of_their_column() -> None:
    dates = _find("YEAR", ["1700", "1701", "1702"])
    assert dates is not None
    assert dates.values.tolist() == [1700.0, 1701.0, 1702.0]
    assert dates.found_by == "its name"
    assert _find("station", ["1700", "1701", "1702"]) is None


@pytest.mark.parametrize(
    "cells",
    [
        [str(second) for second in range(123456, 128000, 60)],  # of a day
        ["1", "2", "3"],
        ["1999.5", "2000.5"],
        ["202011", "202012", "202013"],
        ["20200131", "20200132"],
    ],
)
def test_counts_are_no_dates(cells: list[str]) -> None:
    dates = _find("time", cells)
    assert dates is not None
    np.testing.assert_array_equal(dates.values, np.array(cells, dtype=np.float64))
    assert _find("station", cells) is None


def test_increasing_or_not_a_column_of_digits_is_only_a_date_in_order() -> None:
    assert _find("volume", ["20200131", "20200101"]) is None


@pytest.mark.parametrize("first", [1, 25])
def test_years_of_two_digits_are_asked_for(first: int) -> None:
    days = np.arange(f"2020-01-{first:02}", "2020-03-01", dtype="datetime64[D]")
    cells = [str(day).replace("-", "")[2:] for day in days]
    with pytest.raises(DataError, match=r"may be a year of two digits.*such as %y%m%d"):
        _find("date", cells)
    dates = _find("date", cells, date_format="%y%m%d")
    assert dates is not None
    np.testing.assert_array_equal(dates.values, days)


@pytest.mark.parametrize("column", ["month", "period"])
def test_months_of_years_that_could_be_days(column: str) -> None:
    """200101 is the first of January 2020 to some, but monthly steps are even as months alone."""
    cells = [f"20{year:02}{month:02}" for year in range(1, 13) for month in range(1, 13)]
    dates = _find(column, cells)
    assert dates is not None
    assert dates.values[-1] == np.datetime64("2012-12-01")


def test_a_format_without_a_column_is_refused() -> None:
    for chosen in (None, "auto"):
        with pytest.raises(ConfigError, match=r"dataset\.date_format=%H: of which column"):
            _find("station", ["a", "b"], chosen, "%H")
    with pytest.raises(DataError, match=r"'01' is not as dataset\.date_format=%Y says"):
        _find("date", ["01", "02"], date_format="%Y")


def test_no_dates_where_none_are_wanted() -> None:
    assert _find("date", ["2020-01-02", "2020-01-01"], chosen=None) is None


def test_a_format_of_the_users() -> None:
    dates = _find("when", ["31.01.2020", "01.02.2020"], "when", "%d.%m.%Y")
    assert dates is not None
    assert dates.usual_step == "1 days"


def test_uneven_steps_are_counted() -> None:
    dates = _find("d", ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-09", "2020-01-10"])
    assert dates is not None
    assert (dates.irregular_steps, dates.usual_step) == (1, "1 days")


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            ["2020-01-01", "2020-01-05", "2020-01-03"],
            "my.csv: line 4, column 'date': 2020-01-03 does not come after 2020-01-05 of line 3",
        ),
        (["2020-01-01", "2020-01-01"], "line 3, column 'date': 2020-01-01 does not come after"),
        (["2020-01-01", "soon"], "line 3, column 'date': 'soon' is not a date like '2020-01-01'"),
        (["2020-01-01", ""], "line 3, column 'date': '' is not a date"),
        (["01/02/2020", "02/02/2020"], "line 2, column 'date': '01/02/2020' is no date that can"),
    ],
)
def test_dates_that_cannot_be_used_are_named(cells: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        _find("date", cells)


def test_a_column_of_dates_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"dataset.dates=dat: my.csv has no such column"):
        _find("date", ["2020-01-01"], chosen="dat")


def test_a_zone_that_leads_out_of_all_years_is_no_date() -> None:
    with pytest.raises(DataError, match="is no date that can be read without doubt"):
        _find("date", ["0001-01-01T00:00:00+23:00"])
