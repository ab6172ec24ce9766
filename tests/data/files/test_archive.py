from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from idl_cli.data.files.archive import read_members
from idl_cli.errors import DataError
from tests.data.makers import images, tar_gz

WANTED = {"data/a.bin": b"content of a", "data/b.bin": images(3000).tobytes()}


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(content)
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_only_wanted_members_are_read_and_nothing_is_extracted(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("data")
    folder.type = tarfile.DIRTYPE
    packed = tar_gz({**WANTED, "data/readme.html": b"", "elsewhere/a.bin": b"another a"}, folder)
    found = read_members(write(tmp_path, packed), "data", ("a.bin", "b.bin", "absent.bin"))
    assert found == {"a.bin": WANTED["data/a.bin"], "b.bin": WANTED["data/b.bin"]}
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar.gz"]


def test_a_leading_dot_is_no_other_path(tmp_path: Path) -> None:
    packed = tar_gz({f"./{path}": content for path, content in WANTED.items()})
    assert read_members(write(tmp_path, packed), "data", ("a.bin",)) == {"a.bin": b"content of a"}


@pytest.mark.parametrize(
    "path", ["../a.bin", "data/../../a.bin", "/etc/a.bin", "data\\..\\a.bin", "C:/a.bin"]
)
def test_paths_out_of_the_archive_are_refused(tmp_path: Path, path: str) -> None:
    archive = write(tmp_path, tar_gz({**WANTED, path: b"evil"}))
    with pytest.raises(DataError, match=r"archive\.tar\.gz: names the path .* outside"):
        read_members(archive, "data", ("a.bin", "b.bin"))
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar.gz"]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "data/b.bin"), (tarfile.FIFOTYPE, "")],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    archive = write(tmp_path, tar_gz(WANTED, link("data/c.bin", target, kind)))
    with pytest.raises(DataError, match=r"'data/c\.bin' is a link or a device"):
        read_members(archive, "data", ("a.bin",))


def test_a_wanted_file_twice(tmp_path: Path) -> None:
    archive = write(tmp_path, tar_gz({**WANTED, "./data/a.bin": b"which one?"}))
    with pytest.raises(DataError, match=r"holds \./data/a\.bin twice"):
        read_members(archive, "data", ("a.bin",))


PACKED = tar_gz(WANTED)
WRONG_CRC = PACKED[:-6] + bytes([PACKED[-6] ^ 0xFF]) + PACKED[-5:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PACKED[: len(PACKED) // 2], "cut short"),
        (PACKED[:-8], "cut short"),
        (WRONG_CRC, "corrupt"),
        (PACKED[:40] + b"\xff" * 40 + PACKED[80:], "corrupt|not an intact"),
        (b"plain text", "corrupt"),
        (b"", "not an intact|cut short"),
    ],
    ids=["half", "no trailer", "wrong crc", "bad deflate", "text", "empty"],
)
def test_damaged_archives_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    archive = write(tmp_path, content)
    with pytest.raises(DataError, match=rf"archive\.tar\.gz: .*({message})"):
        read_members(archive, "data", ("a.bin", "b.bin"))


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: cannot be read \(No such file"):
        read_members(tmp_path / "absent", "data", ("a.bin",))


def test_a_file_with_holes_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    """A sparse member of 8 TB takes 512 bytes of the archive (pax headers of GNU tar)."""
    sparse = tarfile.TarInfo("data/a.bin")
    size = str(2**43)
    sparse.pax_headers = {
        "GNU.sparse.size": size,
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.map": f"{size},0",
    }
    archive = write(tmp_path, tar_gz({}, sparse))
    with pytest.raises(DataError, match=r"'data/a\.bin' is a file with holes"):
        read_members(archive, "data", ("a.bin",))


def test_a_size_that_is_not_there_takes_no_memory(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("data/a.bin")
    huge.size = 2**60
    archive = write(tmp_path, tar_gz({}, huge))
    with pytest.raises(DataError, match=r"archive\.tar\.gz: "):
        read_members(archive, "data", ("a.bin",))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "archive.tar.gz")
    with pytest.raises(DataError, match="is a pipe"):
        read_members(tmp_path / "archive.tar.gz", "data", ("a.bin",))
