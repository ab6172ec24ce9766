"""One writer a form: text a line a sample, NumPy's arrays, Parquet."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, Final

import numpy as np

from idl_cli.data.files.npy_format import Array
from idl_cli.errors import ConfigError
from idl_cli.export.predictor import Predictions
from idl_cli.export.reading.tables import require_parquet
from idl_cli.export.writing.layout import Layout
from idl_cli.run.files import json_line, naming, replacing

STANDARD_OUTPUT: Final = "-"


class Writer(ABC):
    """Writes predictions as they come.

    Args:
        stream: to write to.
        layout: of the columns.
    """

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        self.stream, self.layout = stream, layout

    @abstractmethod
    def write(self, predictions: Predictions) -> None:
        """Write a block."""

    def finish(self) -> None:  # noqa: B027 (most forms have no end of their own)
        """Write what follows the last block."""

    def close(self) -> None:  # noqa: B027
        """Give back what writing has taken, whether it was finished or not."""


class _StandardOutput(io.RawIOBase, BinaryIO):
    """Falls silent where nobody reads any more (``idl predict … | head``): the work goes on."""

    def write(self, content: Any) -> int:
        try:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return len(content)


class CsvWriter(Writer):
    """A header, then a line a sample; a cell is empty where there is no prediction."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        names = ["row", *layout.value_names, *layout.probability_names, "problem"]
        self._lines([names])

    def write(self, predictions: Predictions) -> None:
        """Write a block."""
        self._lines(zip(*self.layout.columns(predictions).values(), strict=True))

    def _lines(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.stream.write(text.getvalue().encode("utf-8", "backslashreplace"))


class JsonLinesWriter(Writer):
    """A JSON object a line."""

    def write(self, predictions: Predictions) -> None:
        """Write a block."""
        columns = self.layout.columns(predictions)
        for entries in zip(*columns.values(), strict=True):
            record = dict(zip(columns, entries, strict=True))
            if record["problem"] is None:
                del record["problem"]
            self.stream.write(json_line(record))


class _GrowingArray:
    """A .npy file whose number of rows is known at its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._rows = stream, 0
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[np.generic] = np.dtype(np.float64)

    def append(self, values: Array) -> None:
        if not self._rows:
            self._shape, self._dtype = values.shape[1:], values.dtype
            self._header()
        self._stream.write(np.ascontiguousarray(values).tobytes())
        self._rows += len(values)

    def close(self) -> None:
        self._stream.seek(0)
        self._header()
        self._stream.seek(0, io.SEEK_END)

    def _header(self) -> None:
        # NumPy pads a header so that its first dimension may grow in place.
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, described)


class NpyWriter(Writer):
    """Classes (m,), -1 where there is none; or probabilities or targets, NaN in their place."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        self._array = _GrowingArray(stream)

    def write(self, predictions: Predictions) -> None:
        """Write a block."""
        self._array.append(self.layout.array(predictions))

    def finish(self) -> None:
        """Write how many rows there are."""
        self._array.close()


class NpzWriter(Writer):
    """``class`` and ``class_names`` or ``prediction``; ``probabilities``; which rows are bad."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        self._folder = tempfile.TemporaryDirectory()
        self._files: dict[str, tuple[IO[bytes], _GrowingArray]] = {}
        self._bad: dict[int, str] = {}
        self._rows = 0

    def write(self, predictions: Predictions) -> None:
        """Write a block."""
        classes = self.layout.task.kind == "classification"
        self._append("class" if classes else "prediction", predictions.values)
        if self.layout.probabilities and predictions.probabilities is not None:
            self._append("probabilities", predictions.probabilities)
        self._bad.update({self._rows + row: why for row, why in predictions.problems.items()})
        self._rows += len(predictions.names)

    def finish(self) -> None:
        """Put the arrays into the archive."""
        small = {
            "bad_rows": np.array([*self._bad], dtype=np.int64),
            "problems": np.array([*self._bad.values()], dtype=np.str_),
        }
        if self.layout.class_names:
            small["class_names"] = np.array(self.layout.class_names)
        with zipfile.ZipFile(self.stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, (file, array) in self._files.items():
                array.close()
                file.flush()
                archive.write(Path(self._folder.name) / name, f"{name}.npy")
            for name, values in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)

    def close(self) -> None:
        """Remove the arrays that were gathered."""
        for file, _ in self._files.values():
            file.close()
        self._folder.cleanup()

    def _append(self, name: str, values: Array) -> None:
        if name not in self._files:
            file = (Path(self._folder.name) / name).open("w+b")
            self._files[name] = file, _GrowingArray(file)
        self._files[name][1].append(values)


class ParquetWriter(Writer):
    """A row group a block."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        require_parquet()
        import pyarrow as pa
        import pyarrow.parquet as pq

        super().__init__(stream, layout)
        classes = layout.task.kind == "classification"
        kinds = dict.fromkeys(layout.value_names, pa.string() if classes else pa.float64())
        kinds |= dict.fromkeys(layout.probability_names, pa.float64())
        self._schema = pa.schema({"row": pa.string(), **kinds, "problem": pa.string()})
        self._writer = pq.ParquetWriter(stream, self._schema)

    def write(self, predictions: Predictions) -> None:
        """Write a block."""
        import pyarrow as pa

        columns = dict(self.layout.columns(predictions))
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def finish(self) -> None:
        """Write the footer."""
        self._writer.close()


WRITERS: Final[Mapping[str, type[Writer]]] = MappingProxyType(
    {
        ".csv": CsvWriter,
        ".jsonl": JsonLinesWriter,
        ".npy": NpyWriter,
        ".npz": NpzWriter,
        ".parquet": ParquetWriter,
    }
)
"""Suffix of the output file → what writes it."""


@contextmanager
def open_writer(output: str, layout: Layout) -> Iterator[Writer]:
    """A writer whose file takes its place once all is written; standard output is CSV.

    Args:
        output: a path, or ``-`` for standard output.
        layout: of the columns.

    Raises:
        MissingExtraError: a library for the form is not installed.
    """
    if output == STANDARD_OUTPUT:
        yield CsvWriter(_StandardOutput(), layout)
        return
    path = Path(output).expanduser()
    with naming(path), replacing(path) as stream:
        writer = WRITERS[path.suffix.lower()](stream, layout)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


def refuse_output(output: str, source: str) -> None:
    """Refuse a place that predictions cannot be written to, before any work.

    Raises:
        ConfigError: its folder is missing, it is a folder or the input itself.
    """
    if output == STANDARD_OUTPUT:
        return
    path = Path(output).expanduser()
    said = None
    if path.is_dir():
        said = "is a folder; name a file in it"
    elif not path.absolute().parent.is_dir():
        said = f"{path.absolute().parent} is no folder; make it first"
    elif path.exists() and Path(source).exists() and path.samefile(source):
        said = "is the input; it would be overwritten"
    if said is not None:
        raise ConfigError([f"output={output}: {said}"])
