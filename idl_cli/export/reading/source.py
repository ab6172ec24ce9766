"""Where samples come from: a file of any known form, a folder of images, standard input."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.data.files.image_file import SUFFIXES
from idl_cli.data.series.missing import Rule
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError, DataError
from idl_cli.export.reading.arrays import rows_of_npy, rows_of_npz
from idl_cli.export.reading.images import rows_of_images
from idl_cli.export.reading.rows import Channels, Rows, numeric_rows
from idl_cli.export.reading.series import in_order, series_rows
from idl_cli.export.reading.tables import Columns, TableBlock, csv_blocks, parquet_blocks

STANDARD_INPUT: Final = "-"
_MAGIC: Final = (
    (b"\x93NUMPY", ".npy"),
    (b"PK\x03\x04", ".npz"),
    (b"PK\x05\x06", ".npz"),
    (b"PAR1", ".parquet"),
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"RIFF", ".webp"),
)
"""How a stream of each form begins; text has none of these and is a table."""


@dataclass(frozen=True)
class Reading:
    """What is to be read of a source, and for which model.

    Args:
        task: of the model.
        dataset: the keys of the data set that it was trained on; empty where they are unknown.
        key: array of a .npz file.
        columns: of a table; None for those of the training, or all.
        block: samples read at a time.
    """

    task: Task
    dataset: Mapping[str, Any]
    key: str | None = None
    columns: tuple[str, ...] | None = None
    block: int = 128

    @property
    def is_series(self) -> bool:
        """Whether tables hold one step of a series a row, rather than one sample."""
        return self.task.forecast is not None

    @property
    def channels(self) -> Channels:
        """Where the channels of images in arrays stand, as the run was told."""
        said = self.dataset.get("channels", "auto")
        return said if said in ("first", "last") else "auto"

    def of_tables(self) -> Columns:
        """Which columns of a table are the model's numbers."""
        count = self.task.step_features if self.is_series else prod(self.task.input_shape)
        own, names, label = self.dataset, self.columns, None
        if self.is_series and own.get("name") == "csv":
            names = names or (own["target"], *own["columns"])
            label = own["dates"]
        return Columns(
            names,
            count,
            label,
            own.get("delimiter", "auto"),
            own.get("decimal", "point"),
            own.get("thousands"),
        )


def open_source(source: str, reading: Reading, stack: ExitStack) -> Iterator[Rows]:
    """The samples of a source, read as they are asked for.

    Args:
        source: a path, or ``-`` for standard input, whose form is told by how it begins.
        reading: what is read of it.
        stack: closes what is open once the work is done.

    Raises:
        ConfigError: the source's form does not fit the model, or a key is needed.
        DataError: it cannot be read.
    """
    if source == STANDARD_INPUT:
        stream = cast(io.BufferedReader, sys.stdin.buffer)
        suffix = next((end for start, end in _MAGIC if stream.peek(8).startswith(start)), ".csv")
        if suffix == ".npy":
            return _npy(stream, "standard input", reading)
        if suffix == ".csv":
            return _table(stream, "standard input", reading, stack)
        # These forms are read in their own order, so they need a file; on disk, not in memory.
        spooled = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"input{suffix}"
        with spooled.open("wb") as file:
            shutil.copyfileobj(stream, file)
        return _of_file(spooled, suffix, reading, stack)
    path = Path(source).expanduser()
    if path.is_dir():
        return rows_of_images(path, reading.task.input_shape, reading.block)
    refuse_irregular(path)
    return _of_file(path, path.suffix.lower(), reading, stack)


def _of_file(path: Path, suffix: str, reading: Reading, stack: ExitStack) -> Iterator[Rows]:
    shape = reading.task.input_shape
    if reading.key is not None and suffix != ".npz":
        raise ConfigError([f"key={reading.key}: is of .npz files, and input={path} is none"])
    if suffix == ".npz":
        return rows_of_npz(path, reading.key, shape, reading.channels, reading.block)
    if suffix in SUFFIXES:
        return rows_of_images(path, shape, reading.block)
    if suffix in (".parquet", ".pq"):
        columns = reading.of_tables()
        return _rows(parquet_blocks(path, str(path), columns, reading.block), reading, str(path))
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if suffix == ".npy":
        return _npy(stream, str(path), reading)
    if suffix in (".csv", ".tsv", ".txt", ".tab"):
        return _table(stream, str(path), reading, stack)
    raise ConfigError(
        [
            f"input={path}: is no .npz, .npy, .csv, .tsv, .txt or .parquet file, no image and no"
            " folder of images; `-` reads standard input"
        ]
    )


def _npy(stream: BinaryIO | io.BufferedReader, where: str, reading: Reading) -> Iterator[Rows]:
    return rows_of_npy(stream, where, reading.task.input_shape, reading.channels, reading.block)


def _table(
    stream: BinaryIO | io.BufferedReader, where: str, reading: Reading, stack: ExitStack
) -> Iterator[Rows]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    stack.callback(text.detach)  # or standard input would be closed with it
    return _rows(csv_blocks(text, where, reading.of_tables(), reading.block), reading, where)


def _rows(blocks: Iterator[TableBlock], reading: Reading, where: str) -> Iterator[Rows]:
    if not reading.is_series:
        for block in blocks:
            numbers = np.where(np.isnan(block.numbers), 0.0, block.numbers)
            shaped = numeric_rows(numbers, block.names, reading.task.input_shape, "auto", where)
            yield Rows(shaped.names, shaped.values, block.problems)
        return
    missing = reading.dataset.get("missing", "error")
    rule: Rule = "interpolate" if missing == "auto" else missing
    dated = in_order(blocks, reading.dataset.get("date_format"), where)
    yield from series_rows(dated, reading.task.input_shape[0], rule, where)
