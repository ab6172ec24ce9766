from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli.data.images.augmentation import CropFlip
from idl_cli.data.images.cifar import (
    CIFAR10,
    CIFAR100,
    CIFAR100_COARSE,
    BinaryVersion,
    cifar10,
    cifar100,
    load_binary_version,
)
from idl_cli.data.loader import BatchLoader
from idl_cli.errors import ConfigError, DataError
from tests.data.conftest import FileServer
from tests.data.makers import cifar_archive, cifar_files, images, labels, source_of, tar_gz

ARCHIVE10 = "cifar-10-binary.tar.gz"


def write_archive(root: Path, version: BinaryVersion, samples: int = 20) -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / version.source.files[0].name).write_bytes(cifar_archive(version, samples))
    return str(root)


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_archive_of_a_root_is_read_as_planes_of_rows(tmp_path: Path) -> None:
    root = write_archive(tmp_path, CIFAR10)
    dataset = cifar10(root=root, validation_fraction=0.0)
    pixels = np.concatenate([images(20, 3072, seed=batch) for batch in range(5)])
    np.testing.assert_array_equal(dataset.train.inputs.numpy(), pixels.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(dataset.train.targets.numpy(), np.tile(labels(20), 5))
    np.testing.assert_array_equal(
        dataset.test.inputs.numpy(), images(20, 3072, seed=5).reshape(-1, 3, 32, 32)
    )
    assert dataset.task.input_shape == (3, 32, 32)
    assert dataset.task.class_names == tuple(f"class {label}" for label in range(10))
    assert len(dataset.preprocessing.mean) == 3
    assert dataset.augmentation == CropFlip(padding=4, flip=True)
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE10]


@pytest.mark.parametrize("layout", ["cifar-10-batches-bin", "", "cifar10/cifar-10-batches-bin"])
def test_extracted_folders_are_found(tmp_path: Path, layout: str) -> None:
    write_archive(tmp_path / "archive", CIFAR10)
    write_folder(tmp_path / "extracted" / layout, cifar_files(CIFAR10))
    packed = cifar10(root=str(tmp_path / "archive"), augment=False)
    loose = cifar10(root=str(tmp_path / "extracted"), augment=False)
    assert torch.equal(packed.train.inputs, loose.train.inputs)
    assert torch.equal(packed.test.targets, loose.test.targets)
    assert packed.task == loose.task
    assert loose.augmentation is None


def test_class_names_may_be_absent(tmp_path: Path) -> None:
    files = cifar_files(CIFAR10)
    del files["batches.meta.txt"]
    write_folder(tmp_path / CIFAR10.folder, files)
    assert cifar10(root=str(tmp_path)).task.class_names is None


def test_cifar100_has_two_labels_a_record(tmp_path: Path) -> None:
    files = {**cifar_files(CIFAR100, 200), **cifar_files(CIFAR100_COARSE, 200)}
    write_folder(tmp_path / CIFAR100.folder, files)
    fine = cifar100(root=str(tmp_path), validation_fraction=0.0)
    coarse = cifar100(root=str(tmp_path), labels="coarse", validation_fraction=0.0)
    assert (fine.task.output_dim, coarse.task.output_dim) == (100, 20)
    assert torch.equal(fine.train.targets, torch.arange(200) % 100)
    assert torch.equal(coarse.train.targets, torch.arange(200) % 20)
    assert torch.equal(fine.train.inputs, coarse.train.inputs)
    expected = images(200, 3072).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(fine.train.inputs.numpy(), expected)


@pytest.mark.parametrize("version", [CIFAR10, CIFAR100])
def test_fetched_from_a_mirror_in_the_official_format(
    version: BinaryVersion, server: FileServer, tmp_path: Path
) -> None:
    server.files[version.source.files[0].name] = cifar_archive(version)
    published = replace(version, source=source_of(version.source, server.files, server.url))
    train, _, task = load_binary_version(published, None, cache_dir=tmp_path)
    assert len(train) == 20 * len(version.train)
    assert task.output_dim == version.classes
    load_binary_version(published, None, cache_dir=tmp_path)
    assert len(server.requests) == 1


def test_a_fetched_archive_with_paths_out_of_it(server: FileServer, tmp_path: Path) -> None:
    files = {f"{CIFAR10.folder}/{name}": content for name, content in cifar_files(CIFAR10).items()}
    server.files[ARCHIVE10] = tar_gz({"../../escaped.bin": b"evil", **files})
    published = replace(CIFAR10, source=source_of(CIFAR10.source, server.files, server.url))
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: names the path"):
        load_binary_version(published, None, cache_dir=tmp_path / "cache")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [ARCHIVE10]


def test_a_mirror_must_serve_the_publishers_archive(server: FileServer, tmp_path: Path) -> None:
    server.files[ARCHIVE10] = cifar_archive(CIFAR10)
    with pytest.raises(DataError, match="wrong checksum"):
        cifar10(mirror=server.url, cache_dir=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


GOOD = cifar_files(CIFAR10)["data_batch_2.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-1], "has 61,459 bytes, not a multiple of a record's 3,073"),
        (b"", "has 0 bytes"),
        (b"\x0a" + GOOD[1:], "label 10 of record 0 is not a class: 0 to 9"),
    ],
    ids=["short", "empty", "label"],
)
def test_damaged_batches_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    write_folder(tmp_path / CIFAR10.folder, {**cifar_files(CIFAR10), "data_batch_2.bin": content})
    with pytest.raises(DataError, match=rf"{CIFAR10.folder}: data_batch_2\.bin.*{message}"):
        cifar10(root=str(tmp_path))


def test_an_image_of_cifar100_with_a_coarse_label_out_of_range(tmp_path: Path) -> None:
    files = cifar_files(CIFAR100)
    files["test.bin"] = b"\x14" + files["test.bin"][1:]
    write_folder(tmp_path / CIFAR100.folder, files)
    with pytest.raises(DataError, match=r"test\.bin: label 20 of record 0.*0 to 19"):
        cifar100(root=str(tmp_path))


def test_missing_batch_and_wrong_class_names(tmp_path: Path) -> None:
    files = cifar_files(CIFAR10)
    del files["data_batch_5.bin"]
    write_folder(tmp_path / "a" / CIFAR10.folder, files)
    with pytest.raises(DataError, match=r"holds no data_batch_5\.bin"):
        cifar10(root=str(tmp_path / "a"))
    files = {**cifar_files(CIFAR10), "batches.meta.txt": b"airplane\ncat\n"}
    write_folder(tmp_path / "b" / CIFAR10.folder, files)
    with pytest.raises(DataError, match=r"batches\.meta\.txt names 2 classes, not 10"):
        cifar10(root=str(tmp_path / "b"))


def test_a_mirror_beside_a_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.mirror=http://m has no use beside"):
        cifar10(root=write_archive(tmp_path, CIFAR10), mirror="http://m")


def test_a_root_without_the_files_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no file cifar-10-batches-bin or {ARCHIVE10} or"):
        cifar10(root=str(tmp_path))


def test_training_batches_are_augmented_and_normalised(tmp_path: Path) -> None:
    dataset = cifar10(root=write_archive(tmp_path, CIFAR10))
    batches = BatchLoader(
        dataset.train,
        16,
        preprocessing=dataset.preprocessing,
        shuffle=True,
        seed=0,
        augmentation=dataset.augmentation,
    )
    inputs, targets = next(iter(batches))
    assert inputs.shape == (16, 3, 32, 32)
    assert inputs.dtype == torch.float32
    assert targets.shape == (16,)
