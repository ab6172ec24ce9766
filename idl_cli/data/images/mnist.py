"""MNIST and Fashion-MNIST: 28 × 28 grey images of 10 classes, 60,000 to train on, 10,000 to test.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998; H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from idl_cli.config.arguments import keywords_of
from idl_cli.data.dataset import Dataset
from idl_cli.data.files.fetch import RemoteFile, Source, fetch, find, refuse_mirror_beside_root
from idl_cli.data.files.idx import read_idx
from idl_cli.data.images.augmentation import CropFlip, augmentation_of
from idl_cli.data.images.image_dataset import image_dataset, image_split
from idl_cli.data.options import FashionMnistOptions, MnistOptions, PublishedOptions
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.errors import DataError

MNIST_SOURCE = Source(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=(
        RemoteFile(
            "train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        RemoteFile(
            "train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        RemoteFile(
            "t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        RemoteFile(
            "t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    layouts=("raw", "MNIST/raw", "mnist/raw", "mnist", "MNIST"),
)

FASHION_MNIST_SOURCE = Source(
    name="fashion_mnist",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    files=(
        RemoteFile(
            "train-images-idx3-ubyte.gz",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        RemoteFile(
            "train-labels-idx1-ubyte.gz",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        RemoteFile(
            "t10k-images-idx3-ubyte.gz",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        RemoteFile(
            "t10k-labels-idx1-ubyte.gz",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    layouts=("raw", "FashionMNIST/raw", "fashion-mnist", "fashion_mnist", "data/fashion"),
)

MNIST_CLASSES = tuple(str(digit) for digit in range(10))
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@keywords_of(MnistOptions, section="dataset")
def mnist(options: MnistOptions, *, seed: int = 0, cache_dir: Path | str | None = None) -> Dataset:
    """Load MNIST; the keys are those of ``configs/dataset/mnist.yaml``.

    Raises:
        DataError: a file is missing, cannot be fetched, or is not what it should be.
        ConfigError: a key is out of range, a number of samples cannot be had, or a mirror is given
            beside a root.
    """
    usual = CropFlip(padding=2, flip=False)  # a mirrored digit is another sign
    return _load(MNIST_SOURCE, MNIST_CLASSES, options, seed, cache_dir, usual)


@keywords_of(FashionMnistOptions, section="dataset")
def fashion_mnist(
    options: FashionMnistOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """Load Fashion-MNIST; keys as in ``configs/dataset/fashion_mnist.yaml``, errors: ``mnist``."""
    usual = CropFlip(padding=2)
    return _load(FASHION_MNIST_SOURCE, FASHION_MNIST_CLASSES, options, seed, cache_dir, usual)


def _load(
    source: Source,
    class_names: tuple[str, ...],
    options: PublishedOptions,
    seed: int,
    cache_dir: Path | str | None,
    usual: CropFlip,
) -> Dataset:
    refuse_mirror_beside_root(options.root, options.mirror)
    train, test = load_idx_images(
        source.with_mirror(options.mirror), options.root, cache_dir, len(class_names)
    )
    shape = tuple(train.inputs.shape[1:])
    task = Task("classification", shape, len(class_names), class_names)
    augmentation = augmentation_of(options, usual)
    return image_dataset(
        source.name, (train, test, task), options, seed=seed, augmentation=augmentation
    )


def load_idx_images(
    source: Source, root: str | None, cache_dir: Path | str | None, classes: int = 10
) -> tuple[Split, Split]:
    """Read the four IDX files of MNIST or a relative of it, however many samples they hold.

    Args:
        source: training images, training labels, test images, test labels, in this order.
        root: directory that already holds the files, gzip or not; None fetches them. What a user
            puts there is checked for its form but not for the publisher's checksums.
        cache_dir: see ``fetch.cache_directory``.
        classes: number of classes; a label outside is refused.

    Returns:
        Training and test part.
    """
    names = [file.name for file in source.files]
    if root is None:
        fetched = fetch(source, cache_dir)
        paths = [fetched[name] for name in names]
    else:
        paths = [
            find(root, (name, name.removesuffix(".gz")), source.layouts, source.name)
            for name in names
        ]
    train = _read_part(paths[0], paths[1], classes)
    test = _read_part(paths[2], paths[3], classes)
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise DataError(
            f"{paths[2]}: images of {tuple(test.inputs.shape[2:])} pixels, but those of {paths[0]}"
            f" have {tuple(train.inputs.shape[2:])}"
        )
    return train, test


def _read_part(images_path: Path, labels_path: Path, classes: int) -> Split:
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    for path, array in ((images_path, images), (labels_path, labels)):
        if array.dtype != np.uint8:
            raise DataError(f"{path}: entries of type {array.dtype}, where unsigned bytes belong")
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels):,} labels for the {len(images):,} images of {images_path}"
        )
    outside = labels.astype(np.int64) >= classes
    if outside.any():
        position = int(outside.argmax())
        raise DataError(
            f"{labels_path}: label {labels[position]} of sample {position} is not a class:"
            f" 0 to {classes - 1} are"
        )
    return image_split(images[:, None], labels)
