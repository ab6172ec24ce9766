"""Reading a folder of images in which each class has its own folder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idl_cli.data.files.array_files import RawPart
from idl_cli.data.files.image_file import FORMATS, is_image, read_image
from idl_cli.data.files.parts import part_of
from idl_cli.errors import DataError, IgnoredOptionWarning


@dataclass
class _Found:
    """What reading came across, to be said once."""

    passed_over: list[Path] = field(default_factory=list)
    transparent: list[Path] = field(default_factory=list)

    def warn(self, folder: Path) -> None:
        for files, what in (
            (self.passed_over, f"not read; images are {', '.join(FORMATS)} in CLASS folders"),
            (self.transparent, "have transparency, which is dropped: the colours below are read"),
        ):
            if files:
                others = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
                named = ", ".join(str(file.relative_to(folder)) for file in files[:3])
                warnings.warn(
                    f"{folder}: {len(files):,} of its entries {what} ({named}{others})",
                    IgnoredOptionWarning,
                    stacklevel=3,
                )


def read_image_folder(folder: Path) -> dict[str, RawPart]:
    """Read ``folder/class/image``, or ``folder/train/class/image`` and the same of other parts.

    Other parts are ``test`` and ``validation`` (or ``val``, ``valid``, ``dev``), in any case.
    Images are told by suffix or content; what is none is named in a warning, hidden entries are
    passed over. They keep 8 bits a channel: one channel when all of them are grey, else red,
    green, blue. All must have the same size, upright.

    Returns:
        Parts by name (``train``, and ``validation`` and ``test`` where there are such folders);
        inputs are (m, channels, height, width) uint8, targets the class names as text.

    Raises:
        DataError: there are no classes or a class has no images or has folders of its own, a part
            has two folders, or an image cannot be read or has another size than the first.
    """
    found = _Found()
    parts = _part_folders(folder, found)
    read = {part: _read_classes(path, found) for part, path in parts.items()}
    found.warn(folder)
    grey = all(image.ndim == 2 for images, _ in read.values() for image in images)
    return {
        part: RawPart(_stack(images, grey), np.array(names), str(parts[part]), str(parts[part]))
        for part, (images, names) in read.items()
    }


def _part_folders(folder: Path, found: _Found) -> dict[str, Path]:
    # A class may be called train, but has no folders of its own.
    named: dict[str, Path] = {}
    others = []
    for path in _entries(folder):
        part = part_of(path.name) if path.is_dir() else None
        if part is None or not any(each.is_dir() for each in _entries(path)):
            others.append(path)
        elif part in named:
            raise DataError(
                f"{path} and {named[part].name}/ are both the {part} part; keep one of them"
            )
        else:
            named[part] = path
    if not named:
        return {"train": folder}
    if "train" not in named:
        there = ", ".join(f"{path.name}/" for path in named.values())
        raise DataError(f"{folder}: has {there}, but no train/ to train on")
    for path in others:
        if part_of(path.name) in ("validation", "test"):
            raise DataError(f"{path}: has no folders; images are looked for as {path}/CLASS/IMAGE")
    found.passed_over += others
    return named


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def _read_classes(
    folder: Path, found: _Found
) -> tuple[Sequence[npt.NDArray[np.uint8]], Sequence[str]]:
    entries = _entries(folder)
    found.passed_over += [path for path in entries if not path.is_dir()]
    classes = [path for path in entries if path.is_dir()]
    if not classes:
        raise DataError(
            f"{folder}: has no folders; images are looked for as {folder}/CLASS/IMAGE,"
            f" or as {folder}/train/CLASS/IMAGE and {folder}/test/CLASS/IMAGE"
        )
    images: list[npt.NDArray[np.uint8]] = []
    names: list[str] = []
    first: Path | None = None
    for path in classes:
        if not path.name.isprintable():
            raise DataError(
                f"{folder}: the class {path.name!r} has characters in its name that cannot be"
                " printed; rename the folder"
            )
        for file in _images(path, found):
            image, transparent = read_image(file)
            if transparent:
                found.transparent.append(file)
            first = first or file
            if images and image.shape[:2] != images[0].shape[:2]:
                raise DataError(
                    f"{file}: {image.shape[1]} x {image.shape[0]} pixels, but {first} has"
                    f" {images[0].shape[1]} x {images[0].shape[0]}; all images need one size"
                )
            images.append(image)
            names.append(path.name)
    return images, names


def _images(folder: Path, found: _Found) -> list[Path]:
    images: list[Path] = []
    for path in _entries(folder):
        if path.is_dir():
            raise DataError(
                f"{path}: a folder within the folder of a class; images are looked for as"
                f" {folder}/IMAGE: move them there, or point dataset.file at the folder of classes"
            )
        (images if is_image(path) else found.passed_over).append(path)
    if not images:
        raise DataError(f"{folder}: the folder of a class has no images ({', '.join(FORMATS)})")
    return images


def _stack(images: Sequence[npt.NDArray[np.uint8]], grey: bool) -> npt.NDArray[np.uint8]:
    if grey:
        return np.stack(images)[:, None]
    colour = [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images]
    return np.ascontiguousarray(np.stack(colour).transpose(0, 3, 1, 2))
