from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from idl_cli.data.files.idx import read_idx
from idl_cli.errors import DataError
from tests.data.makers import idx_bytes, images, labels

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@settings(derandomize=True, deadline=None)
@given(
    st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: (
            np_st.arrays(
                dtype, np_st.array_shapes(max_dims=3, max_side=4), elements={"allow_nan": False}
            )
            if dtype[0] == "f"
            else np_st.arrays(dtype, np_st.array_shapes(max_dims=3, max_side=4))
        )
    ),
    st.booleans(),
)
def test_every_type_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "array"
    content = idx_bytes(array, CODES[array.dtype.str[1:]])
    path.write_bytes(gzip.compress(content) if compressed else content)
    read = read_idx(path, ndim=array.ndim)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    plain = tmp_path / "labels.gz"
    plain.write_bytes(idx_bytes(labels(5)))
    np.testing.assert_array_equal(read_idx(plain, ndim=1), labels(5))


IMAGES = idx_bytes(images(6, 4, 3))
COMPRESSED = gzip.compress(IMAGES, mtime=0)
FLIPPED = bytearray(COMPRESSED)
FLIPPED[-6] ^= 0xFF  # a bit of the CRC that ends a gzip stream


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG\r\n", "not an IDX file: it starts with 89 50 4e 47"),
        (b"\0\0\x07\x03" + IMAGES[4:], "not an IDX file: it starts with 00 00 07 03"),
        (idx_bytes(labels(6)), r"an array of 1 dimension\(s\) where 3 are needed"),
        (IMAGES[:9], "cut short within its header"),
        (idx_bytes(images(0, 4, 3)), "holds no samples"),
        (IMAGES[:-1], "needs 72 bytes of entries, found 71 bytes"),
        (IMAGES + b"\0", "needs 72 bytes of entries, found more"),
        (gzip.compress(IMAGES[:-1]), "needs 72 bytes of entries, found 71 bytes"),
        (gzip.compress(IMAGES + b"\0"), "needs 72 bytes of entries, found more"),
        (COMPRESSED[:-10], "the gzip stream ends early"),
        (COMPRESSED[:-4], "the gzip stream ends early"),
        (bytes(FLIPPED), "the gzip stream is corrupt"),
        (COMPRESSED[:10] + b"\xff" * 40, "the gzip stream is corrupt"),
    ],
    ids=[
        "empty",
        "png",
        "type",
        "labels",
        "header",
        "no samples",
        "short",
        "long",
        "short gzip",
        "long gzip",
        "cut gzip",
        "cut gzip trailer",
        "wrong crc",
        "bad deflate",
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte: .*{message}"):
        read_idx(path, ndim=3)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: cannot be read \(No such file"):
        read_idx(tmp_path / "absent", ndim=1)


@pytest.mark.parametrize("compressed", [False, True])
def test_little_endian_sizes_are_named(tmp_path: Path, compressed: bool) -> None:
    content = IMAGES[:4] + struct.pack("<3I", 6, 4, 3) + IMAGES[16:]
    path = tmp_path / "swapped"
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=r"its sizes are little-endian, \(6, 4, 3\)"):
        read_idx(path, ndim=3)
    path.write_bytes(IMAGES[:4] + b"\xff" * 12 + IMAGES[16:])
    with pytest.raises(DataError, match=r"swapped: shape .* bytes of entries, found 72 bytes"):
        read_idx(path, ndim=3)


def test_a_bomb_of_entries_is_counted_not_kept(tmp_path: Path) -> None:
    """200 MB of zeros behind a header that announces 2**96 entries."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(200 << 20), 9))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="needs 79,228,162"):
        read_idx(path, ndim=3)
