"""Samples of .npy and .npz files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from idl_cli.data.files.npy_format import Array, NpzMembers, npy_blocks
from idl_cli.data.files.parts import ARRAY_PAIRS, array_name
from idl_cli.errors import ConfigError, DataError
from idl_cli.export.reading.rows import Channels, Rows, numeric_rows, positions

_INPUTS = frozenset(inputs for inputs, _ in ARRAY_PAIRS)


def rows_of_npy(
    stream: IO[bytes], where: str, shape: tuple[int, ...], channels: Channels, block: int
) -> Iterator[Rows]:
    """Samples of a .npy stream, which need not be seekable."""
    return _rows(npy_blocks(stream, where, block), where, shape, channels)


def rows_of_npz(
    file: Path, key: str | None, shape: tuple[int, ...], channels: Channels, block: int
) -> Iterator[Rows]:
    """Samples of one array of a .npz file.

    Args:
        file: the archive.
        key: the array; None for the only one, or the only one named as inputs are.
        shape: of the model's samples.
        channels: where those of images stand.
        block: samples read at a time.

    Raises:
        ConfigError: there is no such array, or there are several.
        DataError: the file is damaged.
    """
    members = NpzMembers(file)
    chosen = _choose(file, list(members), key)
    return _rows(members.blocks(chosen, block), f"{file}[{chosen}]", shape, channels)


def _rows(
    blocks: Iterable[Array], where: str, shape: tuple[int, ...], channels: Channels
) -> Iterator[Rows]:
    first = 0
    for values in blocks:
        names = positions(first, len(values))
        yield numeric_rows(values, names, shape, channels, where)
        first += len(values)
    if not first:
        raise DataError(f"{where}: holds no samples")


def _choose(file: Path, keys: list[str], key: str | None) -> str:
    there = ", ".join(keys)
    if key is not None:
        if key not in keys:
            raise ConfigError([f"key={key}: {file} has no such array; it has {there}"])
        return key
    named = [each for each in keys if (array_name(each) or (None, ""))[1] in _INPUTS]
    for candidates in (named, keys):
        if len(candidates) == 1:
            return candidates[0]
    raise ConfigError([f"key: which array of {file} holds the samples? Give key=NAME of {there}"])
