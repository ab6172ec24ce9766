"""Arrays in files: what a header says is held against the bytes before memory is taken."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from idl_cli.data.files.bounds import read_at_most
from idl_cli.data.files.npy_format import NpzMembers, read_npy
from idl_cli.errors import DataError

HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 999), }"


def npy_bytes(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["<f8", ">f4", "<i2", "|u1", "?", "<U3", "|S4"]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    st.booleans(),
)
def test_arrays_are_read_as_numpy_reads_them(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool
) -> None:
    array = np.asfortranarray(array) if fortran else array
    folder = tmp_path_factory.mktemp("npy")
    np.save(folder / "a.npy", array)
    np.savez_compressed(folder / "a.npz", a=array, b=array)
    for found in (read_npy(folder / "a.npy"), NpzMembers(folder / "a.npz")["a"]):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        npy_bytes(HUGE),
        npy_bytes(HUGE.replace("99999999999, 999", "-1,"), bytes(8)),
        npy_bytes(HUGE.replace("99999999999, 999", "9999999999999999999999,")),
        npy_bytes("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,), }"),
        npy_bytes("(" * 5000),
        npy_bytes("[" * 95 + "]" * 95),
        npy_bytes("{'descr': 'x', 'fortran_order': False, 'shape': (1,), }"),
        npy_bytes("{'shape': (1,)}"),
        npy_bytes(HUGE.replace("99999999999, 999", "2,"), bytes(17)),
        b"\x93NUMPY\x03\x00" + bytes(20),
        b"\x93NUMPY",
        b"",
    ],
)
def test_a_header_that_does_not_fit_its_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy: not an intact NumPy file"):
        read_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(DataError, match=r"a\.npz\[a\]: not an intact NumPy file"):
        NpzMembers(tmp_path / "a.npz")["a"]


def test_members_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", stream.getvalue())
        archive.writestr("bomb.npy", npy_bytes(HUGE))
        archive.writestr("notes.txt", "hello")
    members = NpzMembers(tmp_path / "a.npz")
    assert sorted(members) == ["a", "bomb", "notes.txt"]
    np.testing.assert_array_equal(members["a"], np.arange(3))
    with pytest.raises(DataError, match=r"\[notes\.txt\]: not an array"):
        members["notes.txt"]


def test_more_than_the_machine_s_memory_is_refused(tmp_path: Path) -> None:
    """A file with holes has the length that its header says, and takes no room on the disk."""
    length = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    header = npy_bytes(HUGE.replace("<f8", "|u1").replace("99999999999, 999", f"{length},"))
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + length)
    with pytest.raises(DataError, match=rf"a\.npy: needs {length:,} bytes of memory"):
        read_npy(tmp_path / "a.npy")


def test_a_length_that_is_not_there_takes_no_memory() -> None:
    assert read_at_most(io.BytesIO(b"abc"), 2**62, "x") == b"abc"
    assert read_at_most(io.BytesIO(b"abc"), 2, "x") == b"ab"
