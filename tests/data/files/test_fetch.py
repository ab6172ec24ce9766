from __future__ import annotations

import io
import logging
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pooch
import pytest

from idl_cli.data.files.fetch import Source, cache_directory, fetch, find
from idl_cli.errors import DataError
from tests.data.conftest import FileServer
from tests.data.makers import source_of

FILES = {"one.gz": b"first file " * 1000, "two.gz": b"second file"}
NOWHERE = Source(name="numbers", mirrors=(), files=(), layouts=("raw",))


@pytest.fixture
def source(server: FileServer) -> Source:
    server.files.update(FILES)
    return source_of(NOWHERE, FILES, server.url)


def everything_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_files_are_fetched_once(source: Source, server: FileServer, tmp_path: Path) -> None:
    paths = fetch(source, tmp_path)
    assert {name: path.read_bytes() for name, path in paths.items()} == FILES
    assert server.requests == ["one.gz", "two.gz"]
    assert fetch(source, tmp_path) == paths
    assert server.requests == ["one.gz", "two.gz"]
    assert everything_below(tmp_path) == ["one.gz", "two.gz"]


def test_a_damaged_file_in_the_cache_is_fetched_again(
    source: Source, server: FileServer, tmp_path: Path
) -> None:
    path = fetch(source, tmp_path)["two.gz"]
    path.write_bytes(b"damaged")
    assert fetch(source, tmp_path)["two.gz"].read_bytes() == FILES["two.gz"]
    assert server.requests == ["one.gz", "two.gz", "two.gz"]


def test_wrong_checksum_is_not_kept(source: Source, server: FileServer, tmp_path: Path) -> None:
    server.files["one.gz"] = b"something else"
    with pytest.raises(DataError, match=r"one\.gz.*wrong checksum and was not kept"):
        fetch(source, tmp_path)
    assert everything_below(tmp_path) == []


def test_interrupted_transfer_leaves_nothing(
    source: Source, server: FileServer, tmp_path: Path
) -> None:
    server.interrupted.add("one.gz")
    with pytest.raises(DataError, match=r"one\.gz: the transfer was interrupted"):
        fetch(source, tmp_path)
    assert everything_below(tmp_path) == []
    server.interrupted.clear()
    assert fetch(source, tmp_path)["one.gz"].read_bytes() == FILES["one.gz"]


def test_the_next_mirror_is_tried(source: Source, server: FileServer, tmp_path: Path) -> None:
    mirrors = (f"{server.url}nothing/here/", server.url.rstrip("/"))
    paths = fetch(replace(source, mirrors=mirrors), tmp_path)
    assert paths["two.gz"].read_bytes() == FILES["two.gz"]
    assert server.requests[:2] == ["nothing/here/one.gz", "one.gz"]


def test_a_file_the_server_does_not_have(
    source: Source, server: FileServer, tmp_path: Path
) -> None:
    del server.files["one.gz"]
    with pytest.raises(DataError, match="the server answered 404 Not Found"):
        fetch(source, tmp_path)


def test_without_network_one_sentence_says_what_to_put_where(tmp_path: Path) -> None:
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DataError) as caught:
            fetch(source_of(NOWHERE, FILES, mirror), tmp_path)
    message = str(caught.value)
    assert "no connection" in message
    assert f"fetch one.gz, two.gz from {mirror}" in message
    assert str(tmp_path / "numbers") in message
    assert "dataset.root=DIR" in message
    assert "\n" not in message


def test_a_password_of_a_mirror_is_said_nowhere(source: Source, tmp_path: Path) -> None:
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    pooch.get_logger().addHandler(listener)
    try:
        with pytest.raises(DataError):
            fetch(source.with_mirror("http://me:hunter2@localhost:9/data"), tmp_path)
    finally:
        pooch.get_logger().removeHandler(listener)
    assert any("***@localhost" in line for line in said), "the library says where it downloads from"
    assert not any("hunter2" in line for line in said)
    with pytest.raises(DataError, match=r"keeps no passwords: give dataset\.mirror=URL again"):
        fetch(source.with_mirror("http://***@localhost:9/data"), tmp_path)


def test_what_the_sentence_advises_works(
    source: Source, server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "numbers").mkdir()
    for name, content in FILES.items():
        (tmp_path / "numbers" / name).write_bytes(content)
    fetch(source, tmp_path)
    assert server.requests == []


def test_a_cache_that_cannot_be_written(source: Source, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where the cache directory should be")
    with pytest.raises(DataError, match=r"cannot use .*IDL_CACHE"):
        fetch(source, occupied)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_is_shown_on_a_terminal_only(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stream: io.StringIO,
    shown: bool,
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    fetch(source, tmp_path)
    assert ("100%" in stream.getvalue()) == shown


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDL_CACHE", str(tmp_path / "environment"))
    assert cache_directory() == tmp_path / "environment"
    assert cache_directory(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.delenv("IDL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / "idl"


def test_find_looks_in_the_root_and_then_in_its_layouts(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "one").write_bytes(b"")
    assert find(tmp_path, ("one.gz", "one"), ("raw",), "numbers") == tmp_path / "raw" / "one"
    (tmp_path / "one.gz").write_bytes(b"")
    assert find(tmp_path, ("one.gz", "one"), ("raw",), "numbers") == tmp_path / "one.gz"


def test_find_names_the_files_and_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file one\.gz or one of numbers in it.*/raw"):
        find(tmp_path, ("one.gz", "one"), ("raw",), "numbers")
    with pytest.raises(DataError, match=r"dataset\.root=.*missing: no such directory"):
        find(tmp_path / "missing", ("one.gz",), ("raw",), "numbers")
