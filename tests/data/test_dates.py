from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from idl_cli.data.dates import Dates, find_dates
from idl_cli.data.table import Table
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
    ],
)
def test_formats_that_cannot_be_mistaken(cells: list[str], second: str) -> None:
    dates = _find("whenever", cells)
    assert dates is not None
    assert dates.found_by == "its first cell"
    assert dates.values[1] == np.datetime64(second)


def test_numbers_are_dates_by_the_name_of_their_column() -> None:
    dates = _find("YEAR", ["1700", "1701", "1702"])
    assert dates is not None
    assert dates.values.tolist() == [1700.0, 1701.0, 1702.0]
    assert dates.found_by == "its name"
    assert _find("station", ["1700", "1701", "1702"]) is None


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
