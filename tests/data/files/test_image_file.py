from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, features

from idl_cli.data.files.image_file import is_image, read_image
from idl_cli.errors import DataError
from tests.data.makers import images

ORIENTATION = 0x0112  # EXIF 2.3, tag Orientation
GREY = images(1, 6, 4)[0]
COLOUR = images(1, 6, 4, 3)[0]


def png(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG of any number of channels, which Pillow itself cannot write."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">2I5B", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("suffix", ["png", "bmp", "dib", "tif", "TIFF", "gif", "ppm", "webp"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_formats_give_their_pixels(
    tmp_path: Path, suffix: str, pixels: npt.NDArray[np.uint8]
) -> None:
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(file, **({"lossless": True} if suffix == "webp" else {}))
    read, transparent = read_image(file)
    if read.ndim > pixels.ndim:  # a format without grey
        pixels = np.stack([pixels] * 3, axis=-1)
    np.testing.assert_array_equal(read, pixels)
    assert not transparent


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_refused_in_every_layout(tmp_path: Path, channels: int) -> None:
    file = tmp_path / "deep.png"
    file.write_bytes(png(np.arange(24 * channels, dtype=np.uint16).reshape(6, 4, channels) * 600))
    with pytest.raises(DataError, match=r"deep\.png: pixels of more than 8 bits \(16 bits\)"):
        read_image(file)


@pytest.mark.parametrize("largest", [4095, 65535])
def test_a_pixmap_of_more_than_8_bits_is_refused(tmp_path: Path, largest: int) -> None:
    file = tmp_path / "deep.ppm"
    file.write_bytes(b"P6\n2 2\n%d\n" % largest + bytes(24))
    with pytest.raises(DataError, match=r"deep\.ppm: pixels of more than 8 bits"):
        read_image(file)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_grey_of_more_than_8_bits_is_refused(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "deep.tif"
    Image.new(mode, (4, 6)).save(file)
    with pytest.raises(DataError, match=r"deep\.tif: pixels of more than 8 bits"):
        read_image(file)


def test_images_are_turned_as_their_orientation_says(tmp_path: Path) -> None:
    """EXIF 2.3, 4.6.4: 6 is to be turned clockwise by 90 degrees to be upright."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for suffix in ("png", "tif"):
        file = tmp_path / f"phone.{suffix}"
        Image.fromarray(GREY).save(file, exif=exif)
        np.testing.assert_array_equal(read_image(file)[0], np.rot90(GREY, -1))


def test_one_bit_and_grey_with_transparency_are_grey(tmp_path: Path) -> None:
    file = tmp_path / "grey.png"
    Image.fromarray(GREY > 99).save(file)
    np.testing.assert_array_equal(read_image(file)[0], 255 * (GREY > 99))
    Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (4, 6), 255)]).save(file)
    read, transparent = read_image(file)
    np.testing.assert_array_equal(read, GREY)
    assert not transparent


def test_palettes_and_their_transparency(tmp_path: Path) -> None:
    file = tmp_path / "palette.png"
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4) % 2, "L")
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.save(file, transparency=1)
    read, transparent = read_image(file)
    assert transparent
    np.testing.assert_array_equal(read[0, :2], [[200, 0, 0], [0, 100, 0]])


def test_four_inks_become_red_green_blue(tmp_path: Path) -> None:
    file = tmp_path / "print.tif"
    Image.new("CMYK", (4, 6), (255, 0, 0, 0)).save(file)
    assert read_image(file)[0][0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("suffix", ["gif", "png", "tif"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"moving.{suffix}"
    pictures = [Image.fromarray(each) for each in images(3, 6, 4)]
    pictures[0].save(file, save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match=r"moving.*: holds 3 pictures"):
        read_image(file)


def test_the_preview_in_a_camera_s_jpeg_is_no_second_picture(tmp_path: Path) -> None:
    file = tmp_path / "camera.jpg"
    white, black = Image.new("L", (8, 8), 255), Image.new("L", (8, 8))
    white.save(file, "MPO", save_all=True, append_images=[black])
    assert (read_image(file)[0] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "ppm"])
def test_truncated_images_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(images(1, 60, 40, 3)[0]).save(whole)
    content = whole.read_bytes()
    for keep in (0, 3, 30, len(content) // 2):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(content[:keep])
        with pytest.raises(DataError, match=rf"cut\.{suffix}: not an intact image"):
            read_image(cut)


def test_what_is_no_image(tmp_path: Path) -> None:
    for name, content in (("notes.txt", b"text"), ("Thumbs.db", bytes(99)), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        assert not is_image(tmp_path / name)
    assert is_image(tmp_path / "claims to be.JPG")
