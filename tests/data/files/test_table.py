from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.data.files.numbers import parse_number
from idl_cli.data.files.table import read_table
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning


def _write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "my.csv"
    file.write_bytes(text.encode(encoding))
    return file


def test_columns_by_name_with_quotes_spaces_and_blank_lines(tmp_path: Path) -> None:
    text = 'day,"temp, °C", n\n\n1, 2.5,7\r\n"2",-1e3,NA\n'
    table = read_table(_write(tmp_path, text, "utf-8-sig"))
    assert table.header == ("day", "temp, °C", "n")
    assert table.lines == (3, 4)
    assert table.numbers("temp, °C").tolist() == [2.5, -1000.0]
    assert table.numbers("n")[0] == 7
    assert np.isnan(table.numbers("n")[1])


@pytest.mark.parametrize(
    ("text", "decimal"),
    [("a;b\n1,5;2\n", "comma"), ("a\tb\n1.5\t2\n", "point"), ("a,b\n1.5,2\n", "point")],
)
def test_the_delimiter_is_found(tmp_path: Path, text: str, decimal: str) -> None:
    table = read_table(_write(tmp_path, text), decimal=decimal)  # type: ignore[arg-type]
    assert table.numbers("a").tolist() == [1.5]
    assert table.numbers("b").tolist() == [2.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "my.csv: is empty; a header line and rows are needed"),
        ("a,b\n", "my.csv: line 1 is a header, but no rows follow"),
        ("1.5,2\n3,4\n", r"line 1, column 1: '1.5' is a number .* the table has no header"),
        ("a,,c\n1,2,3\n", "line 1: column 2 has no name"),
        ("a,b,a\n1,2,3\n", "line 1: column 'a' is named twice"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, but the header names 2 columns"),
        ('a,b\n1,"2\n', "my.csv: line 2: not a table .* never closed"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(_write(tmp_path, text))


def test_other_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"my.csv: line 2: byte 0xe9 is no text in UTF-8"):
        read_table(_write(tmp_path, "t\ntempérature\n1\n", "latin-1"))
    with pytest.raises(DataError, match=r"my.csv: text in UTF-16; save it as UTF-8"):
        read_table(_write(tmp_path, "t\n1\n", "utf-16"))
    with pytest.raises(DataError, match=r"nowhere.csv: no such file"):
        read_table(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("hot", r"line 3, column 'temp': 'hot' is no number"),
        ('"1,5"', r"line 3, column 'temp': '1,5' is no number; .* dataset.decimal=comma"),
        ("inf", r"line 3, column 'temp': inf is not finite"),
        ("1_000", r"line 3, column 'temp': '1_000' is no number"),
    ],
)
def test_text_in_a_number_column_is_named(tmp_path: Path, cell: str, sentence: str) -> None:
    table = read_table(_write(tmp_path, f"t,temp\n1,2\n2,{cell}\n"))
    with pytest.raises(DataError, match=sentence):
        table.numbers("temp")


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, "t,temp\n1,2\n"))
    with pytest.raises(ConfigError, match=r"dataset.target=tmp: .* t, temp \(did you mean temp\?"):
        table.require("tmp", "dataset.target")


def test_a_decimal_comma_forbids_the_point() -> None:
    assert parse_number("1,5", "comma") == 1.5
    assert parse_number("1.234,5", "comma") is None


@pytest.mark.parametrize(
    ("cells", "keys", "values"),
    [
        (["900", "1,023", "-12,345.5"], "dataset.thousands=comma", [900, 1023, -12345.5]),
        (["1,023", "1,045"], "dataset.thousands=comma", [1023, 1045]),
        (["1,023,000", "2"], "dataset.thousands=comma", [1023000, 2]),
        (["1 023", "1\u202f023,5"], "dataset.decimal=comma and .*=space", [1023, 1023.5]),
        (["1\u00a0023", "7.5"], "dataset.thousands=space", [1023, 7.5]),
        (["1'023", "1\u2019023.5"], "dataset.thousands=apostrophe", [1023, 1023.5]),
        (["1.023,5", "7"], "dataset.decimal=comma and dataset.thousands=point", [1023.5, 7]),
        (["1.023.456", "7"], "dataset.decimal=comma and dataset.thousands=point", [1023456, 7]),
        (["0,123", "1,023"], "dataset.decimal=comma", [0.123, 1.023]),
        (["1,023", "12,5"], "dataset.decimal=comma", [1.023, 12.5]),
    ],
)
def test_the_keys_that_a_column_is_read_with_are_named(
    tmp_path: Path, cells: list[str], keys: str, values: list[float]
) -> None:
    file = _write(tmp_path, "t;n\n" + "".join(f"1;{cell}\n" for cell in cells))
    with pytest.raises(DataError, match=rf"are numbers with {keys}$") as refusal:
        read_table(file).numbers("n")
    given = dict(re.findall(r"dataset\.(\w+)=(\w+)", str(refusal.value)))
    assert read_table(file, **given).numbers("n").tolist() == values


@pytest.mark.parametrize("mixed", ["1,023 1,5x", "1,023 1.023,5", "1,0234 1,023.5", "$1,023 1,023"])
def test_a_column_without_one_style_gets_no_advice_on_signs(tmp_path: Path, mixed: str) -> None:
    rows = "".join(f"1;{cell}\n" for cell in mixed.split())
    with pytest.raises(DataError, match=r"is no number; correct it") as refusal:
        read_table(_write(tmp_path, "t;n\n" + rows)).numbers("n")
    assert "thousands" not in str(refusal.value)
    assert "decimal" not in str(refusal.value)


def test_a_decimal_comma_that_looks_like_thousands_is_doubted(tmp_path: Path) -> None:
    file = _write(tmp_path, "t;n\n1;900\n2;1,023\n")
    with pytest.warns(IgnoredOptionWarning, match=r"'1,023' .* give dataset\.decimal=point and"):
        assert read_table(file, decimal="comma").numbers("n").tolist() == [900, 1.023]
    decimals = _write(tmp_path, "t;n\n1;900\n2;1,023\n3;1,5\n")
    assert read_table(decimals, decimal="comma").numbers("n").tolist() == [900, 1.023, 1.5]
    with pytest.raises(ConfigError, match=r"dataset\.thousands=comma: is dataset\.decimal too"):
        read_table(file, decimal="comma", thousands="comma")


@pytest.mark.parametrize("cell", ["1,23", "01,234", "1,2345", ",123", "1,023,45", "1,,023"])
def test_groups_have_three_digits(cell: str) -> None:
    assert parse_number(cell, "point", "comma") is None


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_a_number_is_read_in_every_style(whole: int, hundredths: int) -> None:
    text = f"{whole:,}.{hundredths:02}"
    signs = {"comma": ",", "point": ".", "space": " ", "apostrophe": "'"}
    for decimal in ("point", "comma"):
        for thousands, sign in signs.items():
            if thousands != decimal:
                cell = text.translate({ord(","): sign, ord("."): signs[decimal]})
                read = parse_number(cell, decimal, thousands)  # type: ignore[arg-type]
                assert read == float(text.replace(",", ""))
