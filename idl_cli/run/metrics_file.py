"""``metrics.jsonl`` read back: one JSON object a line, the last one perhaps cut short."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Final

from idl_cli.errors import RunError, file_refusal
from idl_cli.run.plain_values import parse_json
from idl_cli.run.records import METRICS

_LONGEST: Final = 1 << 20
"""Bytes of a line; a row has some hundreds."""


def read_metrics(path: Path) -> list[dict[str, object]]:
    """Read the rows of a run's ``metrics.jsonl``.

    A last line without its line feed is one that a crash cut short: it is left out.

    Raises:
        RunError: the file is missing or no file, or a complete line is not a JSON object.
    """
    file = path / METRICS
    refusal = file_refusal(file)
    if refusal is not None:
        raise RunError(f"{file}: {refusal}")
    rows: list[dict[str, object]] = []
    try:
        with file.open("rb") as stream:
            for number in count(1):
                line = stream.readline(_LONGEST)
                if len(line) == _LONGEST:
                    raise RunError(f"{file}: line {number} has more than {_LONGEST:,} bytes")
                if not line.endswith(b"\n"):
                    return rows
                rows.append(_row(line, f"{file}: line {number}"))
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error})") from error
    raise AssertionError("a file ends")


def too_few_rows(path: Path, found: int, needed: int) -> str:
    """The sentence for a run whose checkpoint was saved after more rows than there are."""
    return (
        f"{path / METRICS}: {found} rows, but the checkpoint was saved after {needed}; the file"
        " was altered"
    )


def _row(line: bytes, where: str) -> dict[str, object]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise RunError(f"{where} is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise RunError(f"{where} is not a JSON object")
    return row
