"""Reading a user's .npz and .npy files; a file that holds a pickle is refused, never opened."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.data.files.npy_format import Array, NpzMembers, read_npy
from idl_cli.data.files.parts import ARRAY_PAIRS, PARTS, array_name
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning

_ARRAY: Final = b"\x93NUMPY"
_ARCHIVE: Final = b"PK"


@dataclass(frozen=True)
class RawPart:
    """Samples and targets as read, with the names by which a message calls them.

    Args:
        inputs: samples (m, …), any dtype that was in the file.
        targets: targets (m,) or (m, q); text for class names.
        inputs_name: file and key of the samples.
        targets_name: file and key of the targets.
    """

    inputs: Array
    targets: Array
    inputs_name: str
    targets_name: str


def read_array_files(file: Path, target: Path | None) -> dict[str, RawPart]:
    """Read the parts of a .npz file, or of a .npy file with its targets in another.

    Args:
        file: .npz with the keys ``inputs`` and ``targets``, or ``train_inputs``,
            ``train_targets``, ``test_inputs``, ``test_targets`` (and ``validation_…``), or other
            names in use (``parts.ARRAY_PAIRS``), such as ``x_train`` and ``y_train``; or .npy.
        target: .npy of the targets; for a .npy ``file`` alone.

    Returns:
        Parts by name: ``train`` always; the only part of a file that is not divided is ``train``.

    Raises:
        DataError: a file cannot be read, is no array file, holds pickled objects, lacks a key,
            or has names that can be read in two ways.
        ConfigError: ``target`` is missing or has no use.
    """
    if file.suffix == ".npy":
        if target is None:
            raise ConfigError(
                [f"dataset.file={file} holds inputs alone: give dataset.target=FILE.npy as well"]
            )
        inputs, targets = _read_npy(file), _read_npy(target)
        return {"train": RawPart(inputs, targets, str(file), str(target))}
    if file.suffix != ".npz":
        raise ConfigError(
            [f"dataset.file={file}: a .npz file, a .npy file or a folder of images is needed"]
        )
    if target is not None:
        raise ConfigError(
            [f"dataset.target={target}: {file} holds its own targets; leave dataset.target out"]
        )
    return _read_npz(file)


def _read_npz(file: Path) -> dict[str, RawPart]:
    if _start(file).startswith(_ARRAY):
        raise DataError(f"{file}: a single array, although its name ends in .npz")
    arrays = NpzMembers(file)
    if not arrays:
        raise DataError(f"{file}: holds no arrays")
    if {"inputs", "targets"} <= arrays.keys():
        chosen = {"train": ("inputs", "targets")}
    else:
        chosen = _choose(file, list(arrays))
    used = {key for keys in chosen.values() for key in keys}
    unused = sorted(arrays.keys() - used)
    if unused:
        warnings.warn(
            f"{file}: {', '.join(unused)} not used, beside {', '.join(sorted(used))}",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    return {
        part: RawPart(arrays[inputs], arrays[targets], f"{file}[{inputs}]", f"{file}[{targets}]")
        for part, (inputs, targets) in chosen.items()
    }


def _choose(file: Path, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The keys of samples and targets by part, whatever they are called."""
    named: dict[str | None, dict[str, str]] = {}
    for key in keys:
        found = array_name(key)
        if found is not None and named.setdefault(found[0], {}).setdefault(found[1], key) != key:
            raise DataError(
                f"{file}: {named[found[0]][found[1]]} and {key} mean the same; keep one of them"
            )
    pairs = {part: _pairs(words) for part, words in named.items()}
    whole, divided = pairs.get(None), [part for part in PARTS if part in named]
    wanted: list[str | None] = ["train", *(part for part in divided if part != "train")]
    if whole or (named and not divided):
        wanted = [None]
    candidates = [pair for part in wanted for pair in pairs.get(part, [])]
    if whole and pairs.get("train"):
        candidates += pairs["train"]
    if len(candidates) > len(wanted):
        listed = "; ".join(" and ".join(pair) for pair in candidates)
        raise DataError(f"{file}: samples and targets could be {listed}: keep one of these pairs")
    missing = [key for part in wanted if not pairs.get(part) for key in _missing(part, named)]
    if missing:
        raise DataError(
            f"{file}: has no {' and no '.join(missing)} (it has: {', '.join(sorted(keys))});"
            " needed are inputs and targets, or train_inputs, train_targets, test_inputs and"
            " test_targets, or the like of x_train and y_train, train_images and train_labels"
        )
    return {part or "train": pairs[part][0] for part in wanted}


def _pairs(words: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(words[x], words[y]) for x, y in ARRAY_PAIRS if x in words and y in words]


def _missing(part: str | None, named: Mapping[str | None, Mapping[str, str]]) -> list[str]:
    """What a part lacks, in the style of what it has."""
    words = named.get(part, {})
    for pair in ARRAY_PAIRS:
        for have, lack in (pair, pair[::-1]):
            if have in words:
                return [re.sub(have, lack, words[have], flags=re.IGNORECASE)]
    return [f"{part}_inputs", f"{part}_targets"]


def _start(file: Path) -> bytes:
    """The first bytes, which tell an array from an archive of some.

    Raises:
        DataError: the file cannot be read, or is neither.
    """
    refuse_irregular(file)
    try:
        with file.open("rb") as stream:
            start = stream.read(6)
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    if not start.startswith((_ARRAY, _ARCHIVE)):
        raise DataError(
            f"{file}: not a NumPy file (it starts with {start.hex(' ') or 'nothing'});"
            " only what numpy.save, numpy.savez or numpy.savez_compressed wrote is read,"
            " no pickle"
        )
    return start


def _read_npy(file: Path) -> Array:
    if _start(file).startswith(_ARCHIVE):
        raise DataError(f"{file}: an archive of arrays, although its name ends in .npy")
    return read_npy(file)
