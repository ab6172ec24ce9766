"""``metrics.jsonl`` read back: one JSON object a line, the last one perhaps cut short."""

from __future__ import annotations

import json
from pathlib import Path

from idl_cli.errors import RunError
from idl_cli.run.records import METRICS


def read_metrics(path: Path) -> list[dict[str, object]]:
    """Read the rows of a run's ``metrics.jsonl``.

    A last line without its line feed is one that a crash cut short: it is left out.

    Raises:
        RunError: the file is missing, or a complete line is not a JSON object.
    """
    file = path / METRICS
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunError(f"{file}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise RunError(f"{file}: line {number} is not a JSON object")
        rows.append(row)
    return rows
