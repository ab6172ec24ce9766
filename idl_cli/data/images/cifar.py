"""CIFAR-10 and CIFAR-100 in their binary versions: 32 × 32 colour images, no pickle involved.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; the format is
described at https://www.cs.toronto.edu/~kriz/cifar.html: records of one label byte (CIFAR-100:
coarse label, fine label) and 3,072 pixels, the red plane first, each plane row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idl_cli.config.arguments import keywords_of
from idl_cli.data.dataset import Dataset
from idl_cli.data.files.archive import read_members
from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.data.files.fetch import RemoteFile, Source, fetch, find, refuse_mirror_beside_root
from idl_cli.data.images.augmentation import CropFlip, augmentation_of
from idl_cli.data.images.image_dataset import image_dataset, image_split
from idl_cli.data.options import Cifar10Options, Cifar100Options
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.errors import DataError

_IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class BinaryVersion:
    """The binary version of one data set.

    Args:
        source: where the archive comes from; its only file.
        folder: directory of the files, in the archive and extracted.
        train: files of the training part, in order.
        test: files of the test part.
        label_classes: number of classes of each label byte of a record.
        label: which label byte is the target.
        class_names: file of the target's class names, one a line.
    """

    source: Source
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_classes: tuple[int, ...]
    label: int
    class_names: str

    @property
    def classes(self) -> int:
        """Number of classes of the target."""
        return self.label_classes[self.label]


_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

CIFAR10 = BinaryVersion(
    source=Source(
        name="cifar10",
        mirrors=_MIRRORS,
        files=(
            RemoteFile(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        layouts=("cifar10", "cifar-10", "CIFAR10"),
    ),
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
    test=("test_batch.bin",),
    label_classes=(10,),
    label=0,
    class_names="batches.meta.txt",
)

CIFAR100 = BinaryVersion(
    source=Source(
        name="cifar100",
        mirrors=_MIRRORS,
        files=(
            RemoteFile(
                "cifar-100-binary.tar.gz",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
        layouts=("cifar100", "cifar-100", "CIFAR100"),
    ),
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    label_classes=(20, 100),
    label=1,
    class_names="fine_label_names.txt",
)

CIFAR100_COARSE = replace(CIFAR100, label=0, class_names="coarse_label_names.txt")


@keywords_of(Cifar10Options, section="dataset")
def cifar10(
    options: Cifar10Options, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """Load CIFAR-10; the keys are those of ``configs/dataset/cifar10.yaml``.

    Raises:
        DataError: the archive is missing, cannot be fetched, or is not what it should be.
        ConfigError: a key is out of range, a number of samples cannot be had, or a mirror is given
            beside a root.
    """
    return _load(CIFAR10, options, seed, cache_dir)


@keywords_of(Cifar100Options, section="dataset")
def cifar100(
    options: Cifar100Options, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """Load CIFAR-100; keys as in ``configs/dataset/cifar100.yaml``, errors of ``cifar10``."""
    version = CIFAR100 if options.labels == "fine" else CIFAR100_COARSE
    return _load(version, options, seed, cache_dir)


def _load(
    version: BinaryVersion,
    options: Cifar10Options | Cifar100Options,
    seed: int,
    cache_dir: Path | str | None,
) -> Dataset:
    published = load_binary_version(version, options.root, options.mirror, cache_dir)
    augmentation = augmentation_of(options, CropFlip())
    return image_dataset(
        version.source.name, published, options, seed=seed, augmentation=augmentation
    )


def load_binary_version(
    version: BinaryVersion,
    root: str | None,
    mirror: str | None = None,
    cache_dir: Path | str | None = None,
) -> tuple[Split, Split, Task]:
    """Read training part, test part and task, however many records the files hold.

    Args:
        version: what to read.
        root: directory with the archive, or with its files; None fetches the archive. What a user
            puts there is checked for its form but not for the publisher's checksum.
        mirror: base URL instead of the publisher's.
        cache_dir: see ``fetch.cache_directory``.
    """
    refuse_mirror_beside_root(root, mirror)
    where, contents = _read_files(version, root, mirror, cache_dir)
    names = contents.get(version.class_names)
    task = Task(
        "classification",
        _IMAGE_SHAPE,
        version.classes,
        None if names is None else _class_names(names, version, where),
    )
    train = _parse_part(version, version.train, contents, where)
    return train, _parse_part(version, version.test, contents, where), task


def _read_files(
    version: BinaryVersion, root: str | None, mirror: str | None, cache_dir: Path | str | None
) -> tuple[Path, dict[str, bytes]]:
    names = (*version.train, *version.test, version.class_names)
    archive_name = version.source.files[0].name
    if root is None:
        found = fetch(version.source.with_mirror(mirror), cache_dir)[archive_name]
    else:
        what = f"the binary version of {version.source.name}"
        choices = (version.folder, archive_name, version.train[0])
        found = find(root, choices, version.source.layouts, what)
    if found.name == archive_name:
        return found, read_members(found, version.folder, names)
    folder = found if found.is_dir() else found.parent
    contents = {}
    for name in names:
        refuse_irregular(folder / name)
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            continue  # told apart by _parse_part: a missing batch is an error, missing names not
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read ({error.strerror})") from error
    return folder, contents


def _parse_part(
    version: BinaryVersion, names: tuple[str, ...], contents: dict[str, bytes], where: Path
) -> Split:
    records = []
    for name in names:
        if name not in contents:
            raise DataError(f"{where}: holds no {name} (in {version.folder})")
        records.append(_parse_records(version, contents[name], f"{where}: {name}"))
    everything = np.concatenate(records)
    labels = len(version.label_classes)
    images = everything[:, labels:].reshape(-1, *_IMAGE_SHAPE)
    return image_split(np.ascontiguousarray(images), everything[:, version.label])


def _parse_records(version: BinaryVersion, content: bytes, where: str) -> npt.NDArray[np.uint8]:
    size = len(version.label_classes) + _PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{where} has {len(content):,} bytes, not a multiple of a record's {size:,}:"
            " cut short, or of another format"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for column, classes in enumerate(version.label_classes):
        outside = records[:, column] >= classes
        if outside.any():
            position = int(outside.argmax())
            raise DataError(
                f"{where}: label {records[position, column]} of record {position} is not a class:"
                f" 0 to {classes - 1} are"
            )
    return records


def _class_names(content: bytes, version: BinaryVersion, where: Path) -> tuple[str, ...]:
    lines = content.decode("utf-8", errors="replace").split("\n")
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != version.classes:
        raise DataError(
            f"{where}: {version.class_names} names {len(names)} classes, not {version.classes}"
        )
    return names
