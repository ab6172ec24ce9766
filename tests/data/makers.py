"""Small files in the official formats, and images that differ from sample to sample."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from idl_cli.data.files.fetch import RemoteFile, Source
from idl_cli.data.images.cifar import BinaryVersion

Bytes = npt.NDArray[np.uint8]


def idx_bytes(array: npt.NDArray[np.generic], code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def images(samples: int, *shape: int, seed: int = 0) -> Bytes:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (samples, *shape), dtype=np.uint8)


def labels(samples: int, classes: int = 10) -> Bytes:
    return (np.arange(samples) % classes).astype(np.uint8)


def idx_files(train: int = 30, test: int = 20) -> dict[str, bytes]:
    """The four files of MNIST, gzip-compressed, with few samples."""
    arrays = {
        "train-images-idx3-ubyte.gz": images(train, 28, 28),
        "train-labels-idx1-ubyte.gz": labels(train),
        "t10k-images-idx3-ubyte.gz": images(test, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte.gz": labels(test),
    }
    return {name: gzip.compress(idx_bytes(array), mtime=0) for name, array in arrays.items()}


def source_of(source: Source, files: Mapping[str, bytes], mirror: str) -> Source:
    """``source`` as if ``files`` were what its publisher has at ``mirror``."""
    remote = tuple(
        RemoteFile(name, hashlib.sha256(content).hexdigest()) for name, content in files.items()
    )
    return replace(source, files=remote, mirrors=(mirror,))


def cifar_records(samples: int, label_classes: tuple[int, ...], seed: int = 0) -> bytes:
    columns = [labels(samples, classes)[:, None] for classes in label_classes]
    return np.hstack([*columns, images(samples, 3072, seed=seed)]).tobytes()


def cifar_files(version: BinaryVersion, samples: int = 20) -> dict[str, bytes]:
    """What the folder of a binary version holds, with few records a file."""
    contents = {
        name: cifar_records(samples, version.label_classes, seed)
        for seed, name in enumerate((*version.train, *version.test))
    }
    names = "".join(f"class {label}\n" for label in range(version.classes))
    return {**contents, version.class_names: f"{names}\n".encode()}


def tar_gz(files: Mapping[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """An archive of ``files`` (by their whole path) followed by bare members, such as links."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return packed.getvalue()


def cifar_archive(version: BinaryVersion, samples: int = 20) -> bytes:
    files = cifar_files(version, samples)
    return tar_gz({f"{version.folder}/{name}": content for name, content in files.items()})
