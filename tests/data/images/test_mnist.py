from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli.data.images.mnist import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_SOURCE,
    MNIST_SOURCE,
    fashion_mnist,
    load_idx_images,
    mnist,
)
from idl_cli.errors import ConfigError, DataError
from tests.data.conftest import FileServer
from tests.data.makers import idx_bytes, idx_files, images, labels, source_of


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("layout", ["", "raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_of_a_root_are_used_as_they_are(
    tmp_path: Path, layout: str, compressed: bool
) -> None:
    files = idx_files()
    if not compressed:
        files = {name[:-3]: gzip.decompress(content) for name, content in files.items()}
    write(tmp_path / layout, files)
    dataset = fashion_mnist(root=str(tmp_path), validation_fraction=0.0)
    np.testing.assert_array_equal(dataset.train.inputs.numpy(), images(30, 28, 28)[:, None])
    np.testing.assert_array_equal(dataset.test.inputs.numpy(), images(20, 28, 28, seed=1)[:, None])
    np.testing.assert_array_equal(dataset.test.targets.numpy(), labels(20))
    assert dataset.train.inputs.dtype == torch.uint8
    assert dataset.train.targets.dtype == torch.int64
    assert dataset.task.input_shape == (1, 28, 28)
    assert dataset.task.class_names == FASHION_MNIST_CLASSES


def test_fetched_from_a_mirror_in_the_official_format(server: FileServer, tmp_path: Path) -> None:
    server.files.update(idx_files())
    source = source_of(MNIST_SOURCE, server.files, server.url)
    train, test = load_idx_images(source, None, tmp_path)
    np.testing.assert_array_equal(train.inputs.numpy(), images(30, 28, 28)[:, None])
    assert len(test) == 20
    again, _ = load_idx_images(source, None, tmp_path)
    assert torch.equal(again.inputs, train.inputs)
    assert len(server.requests) == 4


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_a_mirror_must_serve_the_publishers_files(
    load: type[mnist], server: FileServer, tmp_path: Path
) -> None:
    server.files.update(idx_files())
    with pytest.raises(DataError, match=rf"{server.url}train-images.*wrong checksum"):
        load(mirror=server.url, cache_dir=tmp_path)


def test_published_checksums_are_whole() -> None:
    for source in (MNIST_SOURCE, FASHION_MNIST_SOURCE):
        digests = {file.sha256 for file in source.files}
        assert len(digests) == 4
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)


LABELS = "train-labels-idx1-ubyte.gz"
IMAGES = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("damaged", "content", "message"),
    [
        (LABELS, idx_bytes(labels(29)), "29 labels for the 30 images of .*train-images"),
        (LABELS, idx_bytes(labels(30, classes=11)), "label 10 of sample 10 is not a class: 0 to 9"),
        (LABELS, idx_bytes(images(30, 28, 28)), "3 dimension.* where 1 are needed"),
        (IMAGES, idx_bytes(labels(30)), "1 dimension.* where 3 are needed"),
        (LABELS, idx_bytes(labels(30).astype(np.int32), 0x0C), "unsigned bytes belong"),
        (
            "t10k-images-idx3-ubyte.gz",
            idx_bytes(images(20, 27, 28)),
            r"images of \(27, 28\) pixels",
        ),
    ],
    ids=["count", "range", "images", "labels", "type", "size"],
)
def test_mislabelled_files_are_refused_by_name(
    tmp_path: Path, damaged: str, content: bytes, message: str
) -> None:
    root = write(tmp_path, {**idx_files(), damaged: gzip.compress(content)})
    with pytest.raises(DataError, match=rf"{damaged}: .*{message}"):
        mnist(root=str(root))


def test_an_incomplete_root_names_what_is_missing_and_nothing_is_downloaded(
    tmp_path: Path,
) -> None:
    files = idx_files()
    del files[LABELS]
    root = write(tmp_path / "root", files)
    with pytest.raises(DataError, match=rf"no file {LABELS} or train-labels-idx1-ubyte of mnist"):
        mnist(root=str(root), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_mirror_beside_a_root_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, idx_files())
    for load in (mnist, fashion_mnist):
        with pytest.raises(ConfigError, match=r"dataset\.mirror=http://m has no use beside"):
            load(root=str(root), mirror="http://m")
