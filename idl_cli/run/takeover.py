"""May a run begin in a directory, and what has to go from there first."""

from __future__ import annotations

import warnings
from pathlib import Path

from idl_cli.errors import RunError
from idl_cli.run.files import read_json, remove_temporaries
from idl_cli.run.metrics_file import read_metrics, too_few_rows
from idl_cli.run.records import (
    CHECKPOINTS,
    DATA,
    HYDRA,
    METRICS,
    SUMMARY,
    read_record,
    recorded_status,
)
from idl_cli.run.state import read_state


def take_over(path: Path, command: str, resume: bool) -> int:
    """Make a locked directory ready for a run of ``command``.

    Args:
        path: the directory.
        command: the sub-command that is to run there.
        resume: whether it continues the run found there.

    Returns:
        The number of rows in ``metrics.jsonl``; -1 where they cannot be read.

    Raises:
        RunError: the directory holds a run that is not to be continued, or not by this command.
    """
    previous = [name for name in (SUMMARY, METRICS, CHECKPOINTS) if (path / name).exists()]
    if previous and not resume:
        raise RunError(
            f"{path}: already holds a run ({', '.join(previous)}); continue it with"
            " resume=auto, or choose another directory (hydra.run.dir=DIR)"
        )
    if resume:
        for place in (path, path / CHECKPOINTS, path / HYDRA):
            remove_temporaries(place)
    if (path / SUMMARY).exists():
        _drop_summary(path, command)
    try:
        return len(read_metrics(path)) if (path / METRICS).exists() else 0
    except RunError:  # said by whoever goes on from them, once the run can write down why it ends
        return -1


def _drop_summary(path: Path, command: str) -> None:
    """A resumed run that is killed must not look as if it had ended the way it did before."""
    made_by = read_record(path).command
    if made_by not in (None, command):
        raise RunError(f"{path}: made by `idl {made_by}`; `idl {command}` cannot continue it")
    try:
        recorded_status(path)
    except RunError as error:
        has_checkpoint = any((path / CHECKPOINTS).glob("*.safetensors"))
        if not (path / SUMMARY).is_file() or (made_by is None and not has_checkpoint):
            raise  # nothing says that it is a run's
        warnings.warn(f"{error}; the run goes on without it", stacklevel=4)
    (path / SUMMARY).unlink()


def damage_of(path: Path) -> str | None:
    """Say why a run cannot go on from its last checkpoint; None where it can, or has none."""
    checkpoint = path / CHECKPOINTS / "last.safetensors"
    try:
        rows = len(read_metrics(path)) if (path / METRICS).exists() else 0
        if (path / DATA).exists():
            read_json(path / DATA)
        state = read_state(checkpoint) if checkpoint.is_file() else None
    except RunError as error:
        return str(error)
    needed = state.get("metrics_rows", 0) if isinstance(state, dict) else 0
    return too_few_rows(path, rows, needed) if rows < needed else None
