"""Files that are the old one or the new one, never half of one; JSON that is always valid."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from idl_cli.errors import RunError, file_refusal
from idl_cli.run.plain_values import parse_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPORARY: Final = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.idl-tmp")
"""Names that only ``write_atomic`` gives: users have files named ``.draft.tmp`` too."""

_FIGURE_DPI = 150
_LARGEST_RECORD = 1 << 26  # bytes: a summary, a plan or a description has some thousands


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file's content in one step: a reader, or a crash, finds the old or the new one.

    The content goes to a temporary file in the same directory, is flushed to the disk and renamed
    over the old file; then the directory's entry is flushed too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)  # its error names the folder
    with naming(path), replacing(path) as file:
        file.write(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have the system's errors name the file: a full disk does not say what had no room."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def append(path: Path, content: bytes) -> None:
    """Add to a file's end all of the content, or nothing where there is no room for it."""
    # Unbuffered: what did not fit must not be written when the file is closed.
    with naming(path), path.open("ab", buffering=0) as file:
        end, left = file.tell(), memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            os.truncate(path, end)
            raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of another in one step, once all is written.

    A reader, or a crash, finds the old content or all of the new; after an error, the old. The
    stream can be read and wound back.
    """
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{mark}.idl-tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_temporaries(directory: Path) -> None:
    """Remove what killed writes left in a directory, which no live process writes to."""
    for entry in directory.glob(".*.idl-tmp"):
        if _TEMPORARY.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink():
            entry.unlink()


def write_figure(path: Path, figure: Figure) -> None:
    """Write a Matplotlib figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_FIGURE_DPI)
    write_atomic(path, buffer.getvalue())


def to_json(value: object) -> object:
    """Return a value as JSON can hold it.

    NaN and infinities become null: JSON has no such numbers, and a reader that meets ``NaN`` in a
    file refuses all of it. Paths become text, tuples lists, NumPy numbers and one-element tensors
    Python numbers.

    Raises:
        TypeError: the value has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return _numeric_to_json(value)


def _numeric_to_json(value: object) -> object:
    # Imported here so that who only reads and writes plain values does not pay for torch.
    import numpy as np
    import torch

    if isinstance(value, torch.device | torch.dtype):
        return str(value)
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return to_json(value.item())
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def json_bytes(value: object) -> bytes:
    """Return an indented UTF-8 JSON document."""
    text = json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def csv_bytes(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return a table in UTF-8: a header, then a line a row; columns in the order they first occur.

    A cell is empty where a row lacks the column or holds None, NaN or an infinity.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(to_json(row.get(name))) for name in columns])
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def json_line(value: object) -> bytes:
    """Return a JSON document on one line, with its line feed."""
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object from a file.

    Raises:
        RunError: the file is missing, unreadable, very large or not a usable JSON object.
    """
    refusal = file_refusal(path, _LARGEST_RECORD)
    if refusal is not None:
        raise RunError(f"{path}: {refusal}")
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: a JSON object is needed, not a {type(value).__name__}")
    return value


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's content out now, so that a loss of power spares it."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
