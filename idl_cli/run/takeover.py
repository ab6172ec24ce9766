"""May a run begin in a directory, and what has to go from there first."""

from __future__ import annotations

import warnings
from pathlib import Path

from idl_cli.errors import RunError
from idl_cli.run.files import remove_temporaries
from idl_cli.run.metrics import read_metrics
from idl_cli.run.records import (
    CHECKPOINTS,
    HYDRA,
    METRICS,
    SUMMARY,
    read_record,
    recorded_status,
)


def take_over(path: Path, command: str, resume: bool) -> int:
    """Make a locked directory ready for a run of ``command``.

    Args:
        path: the directory.
        command: the sub-command that is to run there.
        resume: whether it continues the run found there.

    Returns:
        The number of rows in ``metrics.jsonl``.

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
    return len(read_metrics(path)) if (path / METRICS).exists() else 0


def _drop_summary(path: Path, command: str) -> None:
    """A resumed run that is killed must not look as if it had ended the way it did before."""
    made_by = read_record(path).command
    if made_by not in (None, command):
        raise RunError(f"{path}: made by `idl {made_by}`; `idl {command}` cannot continue it")
    try:
        recorded_status(path)
    except RunError as error:
        if made_by is None and not any((path / CHECKPOINTS).glob("*.safetensors")):
            raise  # nothing says that the file is a run's
        warnings.warn(f"{error}; the run goes on without it", stacklevel=4)
    (path / SUMMARY).unlink()
