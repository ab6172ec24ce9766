import json
import math
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli.errors import RunError, system_refusal
from idl_cli.run.files import json_bytes, json_line, read_json, to_json, write_atomic


def test_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"a long first version")
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_json_is_valid_whatever_the_numbers() -> None:
    value = {
        "nan": math.nan,
        "inf": [math.inf, -math.inf],
        "numpy": np.float32(0.5),
        "tensor": torch.tensor(2),
        "path": Path("a/b"),
        "tuple": (1, True, None),
        "dtype": torch.float64,
        3: "key",
    }
    expected = {
        "nan": None,
        "inf": [None, None],
        "numpy": 0.5,
        "tensor": 2,
        "path": "a/b",
        "tuple": [1, True, None],
        "dtype": "torch.float64",
        "3": "key",
    }

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for text in (json_bytes(value), json_line(value)):
        assert json.loads(text, parse_constant=refuse) == expected
    assert json_line(value).count(b"\n") == 1


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="Tensor has no JSON form"):
        to_json({"a": [torch.zeros(2)]})


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_reading_a_damaged_json_file_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"summary\.json"):
        read_json(path)
    with pytest.raises(RunError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")


def test_a_file_that_finds_no_room_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_atomic(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            write_atomic(path, bytes(4096))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sentence = system_refusal(raised.value)
    assert sentence is not None
    assert sentence.startswith(f"{path}: File too large; make room")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
