"""YAML of unknown origin: bounded in depth and size, with all that aliases repeat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.errors import RunError
from idl_cli.run.plain_values import parse_json
from idl_cli.run.yaml_files import read_yaml

LAUGHS = "".join(f"x{n}: &x{n} [{f'*x{n - 1}, *x{n - 1}' if n else 1}]\n" for n in range(40))
MERGES = "".join(f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}]}}\n" for n in range(1, 40))
LADDER = "".join(f"x{n}: &x{n} [[[*x{n - 1}]]]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: &a [x, *a]\n", r"line 1: \*a refers to what it is part of"),
        ("a: &a\n  b: {c: *a}\n", r"line 2: \*a refers to what it is part of"),
        (LAUGHS, "more than 100,000 values"),
        ("x0: &x0 {}\n" + MERGES, "more than 100,000 values"),
        ("x0: &x0 1\n" + LADDER, "nested more than 100 levels deep"),
        ("a: " + "[" * 100_000, "nested more than 100 levels deep"),
        ("a: " + "{b: " * 200, "nested more than 100 levels deep"),
        ("a:\n\tb: 1\n", "line 2: found character"),
        ("a: [1\n", "line 2"),
        ("a: !!timestamp x\n", "not readable as YAML"),
        ("a: !!int ''\n", "not readable as YAML"),
        ("a: !!bool x\n", "not readable as YAML"),
        ("a: 2001-13-45\n", "not readable as YAML"),
        ("a: 2001-12-05\n", "a value of type date"),
        ("a: !!set {b}\n", "a value of type set"),
        ("1: b\n", "a key that is no text"),
        (f"a: {'9' * 400}\n", "an integer of more than 64 bits"),
        ('a: "\\ud800"\n', "line 1: found invalid Unicode"),
        ("- 1\n", "a section of keys is needed, not a list"),
    ],
)
def test_what_would_break_its_readers_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(RunError, match=rf"config\.yaml: .*{reason}"):
        read_yaml(file)


def test_aliases_are_read_and_a_few_levels_too(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: &a {b: [1, 1.5, .inf, null]}\nc: *a\nd: {<<: *a}\n")
    section = {"b": [1, 1.5, float("inf"), None]}
    assert read_yaml(file) == {"a": section, "c": section, "d": section}
    assert read_yaml(tmp_path / "absent.yaml") == {}


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text("abc é", max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.dictionaries(st.text("ab"), _PLAIN))
def test_plain_sections_come_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("plain") / "config.yaml"
    file.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    assert read_yaml(file) == value


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("folder", "a directory"), ("device", "a device")):
        with pytest.raises(RunError, match=kind if name != "device" else "or a device"):
            read_yaml(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 100 levels deep"),
        ("[" * 101 + "1" + "]" * 101, "nested more than 100 levels deep"),
        ('{"a": NaN}', "nan is no number that JSON has"),
        ('{"a": -Infinity}', "-inf is no number"),
        ('{"a": 1e999}', "inf is no number"),
        (f'{{"a": {10**400}}}', "an integer of more than 64 bits"),
        (f'{{"a": {"9" * 5000}}}', "integer"),
        ('{"a": ["\\ud800"]}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
    ],
)
def test_json_that_would_break_its_readers_is_refused(content: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content)


def test_json_up_to_the_bounds_is_read() -> None:
    deep = "[" * 100 + "1" + "]" * 100
    assert str(parse_json(deep)) == deep
    assert parse_json(f'{{"a": [{2**64 - 1}, 1e308, "é"]}}') == {"a": [2**64 - 1, 1e308, "é"]}
