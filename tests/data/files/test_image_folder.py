from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from idl_cli.data.tables.arrays import arrays
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning
from tests.data.makers import images


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for index, pixels in enumerate(images(10, 5, 4, seed=label)):
            save(tmp_path / name / f"{index:02}.png", pixels)
    return tmp_path


def test_folders_are_classes(folder: Path) -> None:
    dataset = arrays(file=str(folder), validation_fraction=0.0)
    assert dataset.task.kind == "classification"
    assert dataset.task.class_names == ("cat", "dog")
    assert dataset.task.input_shape == (1, 5, 4)
    assert dataset.train.inputs.dtype == torch.uint8
    assert dataset.preprocessing.divisor == 255
    expected = {
        pixels.tobytes(): label for label in (0, 1) for pixels in images(10, 5, 4, seed=label)
    }
    for part in (dataset.train, dataset.test):
        for image, label in zip(part.inputs, part.targets, strict=True):
            assert expected.pop(image.numpy().tobytes()) == label
    assert not expected


def test_parts_have_folders_of_their_own(tmp_path: Path) -> None:
    pixels = images(6, 5, 4)
    for index, (part, name) in enumerate(
        [("train", "a"), ("train", "b"), ("test", "b"), ("validation", "a")]
    ):
        save(tmp_path / part / name / "0.png", pixels[index])
    dataset = arrays(file=str(tmp_path))
    assert dataset.validation is not None
    assert dataset.train.targets.tolist() == [0, 1]
    assert dataset.test.targets.tolist() == [1]
    np.testing.assert_array_equal(dataset.test.inputs[0, 0].numpy(), pixels[2])
    np.testing.assert_array_equal(dataset.validation.inputs[0, 0].numpy(), pixels[3])
    save(tmp_path / "test" / "c" / "0.png", pixels[4])
    with pytest.raises(DataError, match="class c of sample 1 is not a class of the training"):
        arrays(file=str(tmp_path))


def test_one_colour_image_makes_all_of_them_colour(folder: Path) -> None:
    colour = images(1, 5, 4, 3)[0]
    save(folder / "cat" / "99.png", colour)
    dataset = arrays(file=str(folder), validation_fraction=0.0)
    assert dataset.task.input_shape == (3, 5, 4)
    found = torch.cat([dataset.train.inputs, dataset.test.inputs])
    assert (found == torch.from_numpy(colour).permute(2, 0, 1)).flatten(1).all(dim=1).sum() == 1
    grey = (found[:, 0] == found[:, 1]) & (found[:, 1] == found[:, 2])
    assert grey.flatten(1).all(dim=1).sum() == 20


def test_palettes_are_looked_up_and_transparency_dropped(tmp_path: Path) -> None:
    colour = np.zeros((5, 4, 3), dtype=np.uint8)
    colour[..., 0] = 200
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    palette = Image.fromarray(np.zeros((5, 4), dtype=np.uint8))
    palette.putpalette([200, 0, 0])
    palette.save(tmp_path / "a" / "palette.png")
    Image.fromarray(colour).convert("RGBA").save(tmp_path / "b" / "transparent.png")
    dataset = arrays(file=str(tmp_path), test_fraction=0.5, validation_fraction=0.0)
    found = torch.cat([dataset.train.inputs, dataset.test.inputs])
    assert found.flatten(2).unique(dim=2)[..., 0].tolist() == [[200, 0, 0]] * 2


def test_hidden_and_other_files_are_no_images(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "README").write_text("no image")
    said = r"2 of its entries not read; images are PNG, .*\(README, cat/notes\.txt\)"
    with pytest.warns(IgnoredOptionWarning, match=said):
        assert len(arrays(file=str(folder), validation_fraction=0.0).train) == 16


def test_an_image_of_another_size(folder: Path) -> None:
    save(folder / "dog" / "98.png", images(1, 4, 4)[0])
    with pytest.raises(DataError, match=r"98\.png: 4 x 4 pixels, but .*00\.png has 4 x 5"):
        arrays(file=str(folder))


def test_damaged_images_are_refused_by_name(folder: Path) -> None:
    whole = (folder / "cat" / "00.png").read_bytes()
    for content in (whole[:-20], whole[:10], b"", b"no image at all"):
        (folder / "dog" / "97.png").write_bytes(content)
        with pytest.raises(DataError, match=r"97\.png: not an intact image"):
            arrays(file=str(folder))


def test_pixels_of_more_than_8_bits(folder: Path) -> None:
    save(folder / "dog" / "96.png", np.arange(20, dtype=np.uint16).reshape(5, 4))
    with pytest.raises(DataError, match=r"96\.png: pixels of more than 8 bits"):
        arrays(file=str(folder))


def test_folders_without_classes_or_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folders; images are looked for as"):
        arrays(file=str(tmp_path))
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"cat: the folder of a class has no images"):
        arrays(file=str(tmp_path))


def test_targets_of_a_folder_are_its_folders(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.target=y\.npy: the targets of a folder"):
        arrays(file=str(folder), target="y.npy")


def test_images_are_told_by_their_content_where_the_suffix_does_not(folder: Path) -> None:
    """Browsers save JPEGs as .jfif; a camera's .JPG, a cache's bare name are images too."""
    for label, name in enumerate(("cat", "dog")):
        for index, pixels in enumerate(images(6, 5, 4, seed=10 + label)):
            suffix = (".jfif", ".JPE", "", ".photo", ".JPG", ".jpeg")[index]
            Image.fromarray(pixels).save(folder / name / f"x{index}{suffix}", "JPEG")
    dataset = arrays(file=str(folder), validation_fraction=0.0)
    assert len(dataset.train) + len(dataset.test) == 32


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL", "dev"])
def test_the_validation_part_by_its_names(tmp_path: Path, name: str) -> None:
    for part, count in (("Train", 20), (name, 7)):
        for label in ("a", "b"):
            for index, pixels in enumerate(images(count, 5, 4)):
                save(tmp_path / part / label / f"{index}.png", pixels)
    dataset = arrays(file=str(tmp_path))
    assert dataset.validation is not None
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [32, 14, 8]
    assert "has no test part: 0.2 of its training samples" in dataset.assumptions[0]


def test_layouts_that_are_no_classes_are_refused(folder: Path) -> None:
    for path in ("train", "val", "validation", "test"):
        for index, name in enumerate(("a", "b")):
            save(folder.parent / "parts" / path / name / "0.png", images(2, 5, 4)[index])
    parts = folder.parent / "parts"
    with pytest.raises(DataError, match=r"validation and val/ are both the validation"):
        arrays(file=str(parts))
    (parts / "validation").rename(parts / "spare")
    with pytest.warns(IgnoredOptionWarning, match=r"1 of its entries not read.*\(spare\)"):
        arrays(file=str(parts))
    (parts / "train").rename(parts / "Lernen")
    with pytest.raises(DataError, match=r"has test/, val/, but no train/"):
        arrays(file=str(parts))
    save(folder / "cat" / "summer" / "0.png", images(1, 5, 4)[0])
    with pytest.raises(DataError, match=r"cat/summer: a folder within the folder of a class"):
        arrays(file=str(folder))


def test_a_test_part_without_classes_is_refused(folder: Path) -> None:
    root = folder.parent / "kaggle"
    folder.rename(root)
    (root / "train").mkdir()
    for name in ("cat", "dog"):
        (root / name).rename(root / "train" / name)
    save(root / "test" / "0.png", images(1, 5, 4)[0])
    with pytest.raises(DataError, match=r"kaggle/test: has no folders; images are looked for as"):
        arrays(file=str(root))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("plane", "train"):
        for index, pixels in enumerate(images(5, 5, 4)):
            save(tmp_path / name / f"{index}.png", pixels)
    assert arrays(file=str(tmp_path)).task.class_names == ("plane", "train")


def test_transparency_is_dropped_with_a_warning(folder: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(2):
            pixels = np.full((5, 4, 4), 9, dtype=np.uint8)
            save(folder / name / f"glass{index}.png", pixels)
    with pytest.warns(IgnoredOptionWarning, match=r"4 of its entries have transparency.*1 more"):
        arrays(file=str(folder))
